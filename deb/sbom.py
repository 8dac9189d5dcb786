#!/usr/bin/env python3
"""What the program is made of, as a CycloneDX document: the crates that are built in, and noVNC. The same source gives the same
text: it has neither a time nor a number of its own.

usage: deb/sbom.py TARGET     TARGET: the triple that is built for
"""

import json
import sys

from licences import built_in, root_of

NOVNC = "web/node_modules/@novnc/novnc/package.json"


def main(target):
    """Prints it."""
    components = [
        {"type": "library", "name": package["name"], "version": package["version"], "purl": f"pkg:cargo/{package['name']}@{package['version']}",
         "licenses": [{"expression": package["license"].replace("/", " OR ")}]}
        for package in built_in(target)
    ]
    with open(NOVNC, encoding="utf-8") as manifest:
        novnc = json.load(manifest)
    components.append({"type": "library", "name": novnc["name"], "version": novnc["version"], "purl": f"pkg:npm/%40novnc/novnc@{novnc['version']}",
                       "licenses": [{"expression": novnc["license"]}]})
    own = root_of(target)
    document = {
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "metadata": {"component": {"type": "application", "name": own["name"], "version": own["version"]}},
        "components": components,
    }
    json.dump(document, sys.stdout, indent=1, sort_keys=True)
    print()


main(*sys.argv[1:])
