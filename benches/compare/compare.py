"""Compares the sidecar with other proxies; started by `run`, which installs and builds what is needed."""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import report
from cells import CELLS
from lib import peers, processes
from lib.check import correct
from lib.peers import RELAY


def arguments():
    parser = argparse.ArgumentParser(prog="benches/compare/run", description=__doc__)
    parser.add_argument("--short", action="store_true", help="fewer and shorter repetitions: at most five minutes")
    parser.add_argument("--full", action="store_true", help="the default")
    parser.add_argument(
        "--only", nargs="+", metavar="FIGURE", default=[], help="figures (1 to 10) or cells by name; writes no results"
    )
    parser.add_argument("--list", action="store_true", help="names the cells")
    return parser.parse_args()


def chosen(only):
    known = {cell.name for cell in CELLS} | {str(figure) for cell in CELLS for figure in cell.figures}
    for name in only:
        if name not in known:
            sys.exit(f"there is no figure or cell {name}; --list names them")
    return [cell for cell in CELLS if not only or cell.name in only or any(str(f) in only for f in cell.figures)]


def say(text):
    print(text, flush=True)


def main():
    asked = arguments()
    cells = chosen(asked.only)
    if asked.list:
        for cell in CELLS:
            say(f"{cell.name:10} figures {', '.join(map(str, cell.figures)) or '-':8} {cell.title}")
        return
    begin = time.monotonic()
    files = processes.raise_file_limit()
    if files < 19500 and any(cell.name == "busy" for cell in cells):
        say(f"only {files} files may be open, which is too few for 9,000 busy connections: that cell is left out")
        cells = [cell for cell in cells if cell.name != "busy"]
    wanted = {kind for cell in cells for kind in (cell.needed if asked.short else cell.kinds)}
    for kind in sorted(wanted - {RELAY}):
        say(f"{kind}: {correct(kind)}")
    results = {}
    for cell in cells:
        started = time.monotonic()
        try:
            results[cell.name] = cell.run(cell.needed if asked.short else cell.kinds, asked.short, **cell.options)
            say(f"{cell.name}: {time.monotonic() - started:.0f} s")
        except (RuntimeError, OSError) as error:
            # One cell that fails does not take the others' results with it.
            say(f"{cell.name} FAILED: {error}")
    versions = peers.versions([kind for kind in [peers.SIDECAR, *peers.PEERS] if kind in wanted] + ["wrk", "oha"])
    failed = [cell.name for cell in cells if cell.name not in results]
    cells = [cell for cell in cells if cell.name in results]
    whole = report.whole(versions, results, cells, asked.short, time.monotonic() - begin)
    say("\n" + report.text(whole))
    if not asked.only:
        report.write(whole)
        say("written to benches/results: latest.md, latest.json, compare.svg")
    if failed:
        sys.exit(f"these cells failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
