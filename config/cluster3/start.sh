#!/bin/sh
# Three managers on one host, each with its own settings, key and data, as three hosts would have:
#   config/cluster3/start.sh DIR        (kept, so that a second start resumes)
# Ctrl-C ends the nodes; what they run goes on, and the next start adopts it. In another terminal:
#   meshswarm --context DIR/client.toml cluster status
# For trying things out, `meshswarm dev` is the shorter way.
set -eu
mkdir -p "${1:?usage: start.sh DIR}"
dir=$(cd "$1" && pwd)
if [ ! -e "$dir/client.toml" ]; then
    meshswarm config init --out "$dir" \
        --node n1=127.0.0.1:4741 --node n2=127.0.0.1:4742 --node n3=127.0.0.1:4743
fi
nodes=
trap 'trap - INT TERM; kill $nodes; wait; exit 0' INT TERM
for name in n1 n2 n3; do
    MESHSWARM_AGENT_RUNTIMES=docker,process meshswarm node start --config "$dir/$name.toml" &
    nodes="$nodes $!"
done
wait
