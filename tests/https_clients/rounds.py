"""How long an app goes on. Its last word is a number of rounds, or the path of a file: then it makes rounds until there
is this file, and one in which a call got no reply begins again."""

import os
import sys
import time

END = sys.argv[-1]


def go_on(a_round, lost):
    """Makes the rounds, no two of one number, and returns how many. A call without reply raises one of `lost`."""
    until_file = not END.isdigit()
    done = again = 0
    while not os.path.exists(END) if until_file else done < int(END):
        try:
            a_round(done + again)
            done += 1
            print(f"round {done}", flush=True)
        except lost as error:
            if not until_file or again == 100:
                raise
            again += 1
            print(f"again: {error!r}", flush=True)
            time.sleep(0.1)
    return done
