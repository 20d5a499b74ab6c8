"""Known vulnerabilities of what an installation of simgan_fast brings along, by pip-audit: `make audit`.

    python .ci/audit.py PYTHON    # the interpreter whose packages are looked at; this one has pip-audit

Exits with 1 where there are any. Where the vulnerability service cannot be asked (no network, or a mirror that has the
packages alone), it says so in one sentence and exits with 0.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

# Prints name==version of simgan-fast's requirements and theirs, without those of its extras.
REQUIREMENTS = """
import re
from importlib.metadata import PackageNotFoundError, distribution
found, waiting = {}, ["simgan-fast"]
while waiting:
    name = re.sub("[-_.]+", "-", waiting.pop()).lower()
    try:
        package = distribution(name)
    except PackageNotFoundError:
        continue  # of another system
    if name in found:
        continue
    found[name] = package.version.split("+")[0]
    for text in package.requires or []:
        if "extra ==" not in text:
            waiting.append(re.match("[A-Za-z0-9._-]+", text)[0])
del found["simgan-fast"]
print("\\n".join(f"{name}=={version}" for name, version in sorted(found.items())))
"""


def main(python: str) -> int:
    listed = subprocess.run(
        [python, "-W", "ignore", "-c", REQUIREMENTS], check=True, capture_output=True, text=True
    ).stdout
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "requirements.txt"
        file.write_text(listed)
        audit = [sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip", "-r", str(file)]
        audit += ["--format", "json", "--progress-spinner", "off", "--timeout", "20"]
        done = subprocess.run(audit, check=False, capture_output=True, text=True)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        reason = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        print(f"audit: not checked, the vulnerability service cannot be asked: {reason[:200]}")
        return 0
    asked = [package for package in packages if "skip_reason" not in package]
    if not asked:
        print(f"audit: not checked, the service knows none of the {len(packages)} packages here.")
        return 0
    bad = [package for package in asked if package["vulns"]]
    for package in bad:
        names = ", ".join(found["id"] for found in package["vulns"])
        print(f"audit: {package['name']} {package['version']}: {names}")
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    print(f"audit: {len(asked)} packages checked, {len(bad)} with known vulnerabilities")
    if unknown:
        print(f"audit: not known to the service: {', '.join(unknown)}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
