"""The server under test: started on free ports, asked for its figures, stopped."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request


@contextlib.contextmanager
def server(*flags, **settings):
    """A server with two shards; yields its addresses by name and its process. `settings` go into its environment."""
    data = tempfile.mkdtemp(prefix="ringshard-clients-")
    command = [os.environ["RINGSHARD"], "serve", "--shards", "2", "--data", data, "--plain", "127.0.0.1:0"]
    command += ["--secure", "127.0.0.1:0", "--admin", "127.0.0.1:0", *flags]
    environment = dict(os.environ, **settings)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    try:
        addresses = {}
        for line in process.stdout:
            word = line.split()
            if word[0] == "ready":
                break
            addresses[f"{word[1]}/{word[2]}"] = word[3]
        assert "plain/tcp" in addresses, "the server did not come up"
        yield addresses, process
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0, f"exit code {process.returncode}"
    finally:
        process.kill()
        shutil.rmtree(data, ignore_errors=True)


def post(base, call, **body):
    request = urllib.request.Request(f"{base}/api/v1/{call}", json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def figures(addresses, name):
    """A metric's value on each shard, summed over its other labels."""
    with urllib.request.urlopen(f"http://{addresses['admin/tcp']}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    values = {}
    for shard, value in re.findall(rf'(?m)^ringshard_{name}{{shard="(\d+)"[^}}]*}} (\S+)$', text):
        values[int(shard)] = values.get(int(shard), 0) + int(value)
    assert values, f"no metric {name}"
    return [values[shard] for shard in sorted(values)]


def figure(addresses, name):
    return sum(figures(addresses, name))


def reaches(addresses, name, wanted, within=5):
    """The metric's value once it is as large as it must become; what it came to, if it does not."""
    until = time.monotonic() + within
    while (value := figure(addresses, name)) < wanted and time.monotonic() < until:
        time.sleep(0.05)
    return value
