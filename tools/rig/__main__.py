"""What runs of the rig have on this machine: `python3 -m tools.rig list`, `... down [RUN ...]`."""

import argparse

from tools.rig import rig


def main() -> None:
    """List the runs, or remove those named; without names, those whose driver is dead."""
    parser = argparse.ArgumentParser(prog="rig", description=__doc__)
    parser.add_argument("what", choices=("list", "down"))
    parser.add_argument("run", nargs="*")
    wanted = parser.parse_args()
    unknown = sorted(set(wanted.run) - set(rig.runs()))
    if unknown:
        parser.error(f"no such run: {', '.join(unknown)}")
    if wanted.what == "list":
        for run in rig.runs():
            print(run, "alive" if rig.is_alive(run) else "dead")
        return
    for run in wanted.run:
        rig.remove(run)
    for run in wanted.run or rig.sweep():
        print(f"removed {run}")


if __name__ == "__main__":
    main()
