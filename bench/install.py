"""Fills the environment of the benchmarks: embq's needs, then the peers one by one.

Usage: install.py          with the Python of that environment

What does not install is written to missing.json in the environment, with pip's error;
the runner lists it in its report.
"""

import json
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
MISSING = Path(sys.prefix) / "missing.json"
SERVERS = {  # program -> Debian's package
    "redis-server": "redis-server",
    "beanstalkd": "beanstalkd",
    "/usr/lib/rabbitmq/bin/rabbitmq-server": "rabbitmq-server",
}


def pip(*requirements):
    """Install, and return pip's error, or None."""
    command = [sys.executable, "-m", "pip", "install", "--quiet"]
    done = subprocess.run(
        [*command, "--disable-pip-version-check", *requirements],
        check=False,
        capture_output=True,
        text=True,
    )
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    return (errors[0] if errors else done.stderr[-300:]) if done.returncode else None


def main():
    """Install all that installs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    if error := pip(*project["dependencies"]):
        sys.exit(error)
    # embq itself is the checkout's, with the core that `make setup` built.
    Path(sysconfig.get_path("purelib"), "embq-checkout.pth").write_text(f"{ROOT}\n")
    lines = [line.strip() for line in REQUIREMENTS.read_text().splitlines()]
    missing = {}
    for line in lines:
        if line and not line.startswith("#") and (error := pip(line)):
            missing[line] = error
            print(f"{line} does not install: {error}", file=sys.stderr)
    for program, package in SERVERS.items():
        if shutil.which(program) is None:
            missing[package] = f"{program} is not there: install the package"
            print(f"{package} is not installed", file=sys.stderr)
    MISSING.write_text(json.dumps(missing, indent=1) + "\n")


if __name__ == "__main__":
    main()
