"""curl or wget, started for each call: command.py PROGRAM OPTION…"""

import json
import subprocess
import sys
import time

URL = "https://api.weixin.qq.com/cgi-bin/user/get?access_token=any-text"
well = 0
while True:
    done = subprocess.run([*sys.argv[1:], URL], capture_output=True, text=True)
    if done.returncode == 0 and "total" in json.loads(done.stdout):
        well += 1
        if well % 3 == 1:
            print(f"ok {well}", flush=True)
    else:
        print(f"fail {done.returncode} {done.stdout} {done.stderr}", flush=True)
        time.sleep(0.2)
    time.sleep(0.05)
