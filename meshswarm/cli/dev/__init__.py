"""`meshswarm dev`: a whole cluster on this host, for trying out and for breaking.

*Invariants:* the nodes are started as on any host (`node start --config`), each a process of its
own that dies with its supervisor, however that ends; whatever was started is ended by `dev stop`,
or by Ctrl-C in the foreground; the data directory alone says which cluster it is.
Reading order: `layout` (files), `processes` (pids), `hosts` (what nodes leave), `supervisor`
(starts and ends nodes), `control` (what another terminal does to them), `cluster` (waits and
measures through a client), `live` (the view), `run` (all of it together), `commands`.
Deliberately absent: restarting by itself; a node that was killed stays so until `dev start`.
"""
