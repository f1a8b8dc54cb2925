"""Break a real cluster by a seed, and check that nothing that it acknowledged is lost or untrue.

Managers run as processes on hosts of their own (network namespaces; takes root) while clients read
and write through the mesh. Long runs are cut into rounds of at most two minutes, each with a seed
of its own and a fresh cluster. The exit code is 1 if a round found a violation.
"""

import argparse
import asyncio
import json
import random
import sys

from attrs import evolve

from tools.chaos.faults import FAULTS
from tools.chaos.planted import BUGS
from tools.chaos.round import Plan, Verdict, planned, played
from tools.rig.rig import obstacle

ROUND_S = 120.0


def main() -> int:
    """Play the rounds asked for; the exit code."""
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--faults", default=",".join(FAULTS), help="default: %(default)s")
    parser.add_argument("--nodes", type=int, choices=(3, 5), default=3)
    parser.add_argument("--keep", action="store_true", help="keep histories, logs and data")
    parser.add_argument("--plant", choices=sorted(BUGS), help="a bug, to see that it is found")
    wanted = parser.parse_args()
    kinds = tuple(wanted.faults.split(","))
    unknown = sorted(set(kinds) - set(FAULTS))
    if unknown:
        parser.error(f"no fault {unknown[0]!r}; there are: {', '.join(FAULTS)}")
    if wanted.plant:  # such managers take no membership changes from here
        kinds = tuple(kind for kind in kinds if kind != "members")
    why_not = obstacle()
    if why_not:
        parser.error(why_not)
    left_s, seed, bad = wanted.minutes * 60, wanted.seed, 0
    while left_s > 1:
        plan = planned(seed, min(left_s, ROUND_S), kinds, wanted.nodes)
        if wanted.plant:
            plan = with_bug(plan, wanted.plant)
        bad += not tell(plan, asyncio.run(played(plan, keep=wanted.keep)), wanted.plant)
        left_s, seed = left_s - ROUND_S, seed + 1
    return 1 if bad else 0


def with_bug(plan: Plan, bug: str) -> Plan:
    """The same plan for managers with a planted bug."""
    return evolve(plan, command=(sys.executable, "-m", "tools.chaos.planted", bug))


def tell(plan: Plan, verdict: Verdict, bug: str | None) -> bool:
    """Print what came of a round, and how to repeat it; whether it was good."""
    minutes = f"{plan.seconds / 60:.6g}"
    repeat = f"python3 tools/run.py chaos --minutes {minutes} --seed {plan.seed}"
    repeat += f" --nodes {plan.managers} --faults {','.join(plan.kinds)}"
    repeat += f" --plant {bug}" if bug else ""
    for violation in verdict.violations:
        print(violation)
    result = {"bench": "chaos", "case": f"seed_{plan.seed}", "managers": plan.managers}
    print(json.dumps(result | verdict.figures | {"violations": len(verdict.violations)}))
    if verdict.kept:
        print(f"kept: {verdict.kept}")
    if verdict.violations:
        print(f"VIOLATED, {len(verdict.violations)} findings; again: {repeat}", flush=True)
    else:
        print(f"good; again: {repeat}", flush=True)
    return not verdict.violations


if __name__ == "__main__":
    sys.exit(main())
