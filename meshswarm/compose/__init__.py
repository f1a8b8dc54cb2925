"""Compose text to a `StackSpec`; every fault with file and line, all of them told at once.

Top-down: `load` is the facade; `convert` turns the checked file into the model; `table` lists every
attribute there is: those that work, and those that do not, with the reason; `shapes`, `ports`,
`mounts` and `texts` read single values; `cursor` and `attribute` are what they stand on; `source`
and `scalars` turn YAML into nodes that know their lines; `interpolate` and `dotenv` know variables;
`report` gathers what there is to say.

*Invariants:* a value means what the official Compose binary says that it means, or it is a fault;
nothing is dropped silently. Whatever the input, the only error is `Invalid`.
Deliberately absent: reading files (the caller passes `read`), merging of several files, `extends`,
`include`, profiles, and any knowledge of the cluster.
"""
