#!/usr/bin/env python3
"""The bill of materials of the daemon: every crate that is compiled into it, as CycloneDX 1.5 (JSON).

    scripts/sbom.py > tributary.cdx.json     writes it to standard output
    scripts/sbom.py --check BINARY           whether it names every crate whose code is in a binary; exit code 1 if not

It is made of what cargo says and of Cargo.lock, so that it needs no other tool and says the same wherever it is made.
"""

import json
import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = "x86_64-unknown-linux-gnu"
BINARY = "tributary"


def main():
    document = bill()
    if sys.argv[1:2] != ["--check"]:
        json.dump(document, sys.stdout, indent=1, ensure_ascii=False)
        print()
        return
    problems = check(document, pathlib.Path(sys.argv[2]))
    for problem in problems:
        print(f"sbom: {problem}", file=sys.stderr)
    if problems:
        sys.exit(1)
    print(f"sbom: {len(document['components'])} components")


def cargo(*arguments):
    return subprocess.run(["cargo", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def bill():
    metadata = json.loads(cargo("metadata", "--format-version", "1", "--locked", "--filter-platform", TARGET))
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    root = next(id for id, package in packages.items() if package["name"] == BINARY and package["source"] is None)
    checksums = {(package["name"], package["version"]): package.get("checksum") for package in lock()["package"]}
    graph = compiled(nodes, packages)
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": component(packages[root], checksums, "application")},
        "components": [component(packages[id], checksums, "library") for id in sorted(graph, key=lambda id: purl(packages[id])) if id != root],
        "dependencies": [
            {"ref": purl(packages[id]), "dependsOn": sorted(purl(packages[other]) for other in graph[id])}
            for id in sorted(graph, key=lambda id: purl(packages[id]))
        ],
    }


def compiled(nodes, packages):
    """What is compiled into the binary, with what each depends on. `cargo metadata` knows the edges, but also of features that only the other
    crates of the workspace want; `cargo tree` knows which are left without these."""
    tree = cargo("tree", "--locked", "--package", BINARY, "--edges", "normal", "--target", TARGET, "--prefix", "none", "--format", "{p}")
    wanted = {tuple(line.split()[:2]) for line in tree.splitlines() if line.strip()}
    ids = {id for id, package in packages.items() if (package["name"], f"v{package['version']}") in wanted}
    assert len(ids) == len(wanted), sorted(wanted)
    is_normal = lambda dep: any(kind["kind"] is None for kind in dep["dep_kinds"])
    return {id: [dep["pkg"] for dep in nodes[id]["deps"] if dep["pkg"] in ids and is_normal(dep)] for id in ids}


def lock():
    return tomllib.loads((ROOT / "Cargo.lock").read_text(encoding="utf-8"))


def purl(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def component(package, checksums, kind):
    entry = {"type": kind, "bom-ref": purl(package), "name": package["name"], "version": package["version"], "purl": purl(package)}
    if package["description"]:
        entry["description"] = " ".join(package["description"].split())
    if package["license"]:
        # Older crates write `MIT/Apache-2.0`, which is no SPDX expression.
        entry["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    checksum = checksums.get((package["name"], package["version"]))
    if checksum:
        entry["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if package["repository"]:
        entry["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return entry


def check(document, binary):
    """What is wrong with it, as far as the binary tells: the places of possible panics are in it, with their crates."""
    named = {(entry["name"], entry["version"]) for entry in document["components"]}
    paths = re.findall(rb"/registry/src/[^/]+/([A-Za-z0-9_-]+?)-(\d+\.\d+\.\d+[0-9A-Za-z.+-]*)/", binary.read_bytes())
    found = {(name.decode(), version.decode()) for name, version in paths}
    problems = [f"{name} {version} is in {binary}, and not named" for name, version in sorted(found - named)]
    if len(found) < 20:
        problems.append(f"{binary} tells of {len(found)} crates only")
    known = {entry["bom-ref"] for entry in document["components"]} | {document["metadata"]["component"]["bom-ref"]}
    for dependency in document["dependencies"]:
        problems += [f"{ref} is depended on, and not named" for ref in [dependency["ref"], *dependency["dependsOn"]] if ref not in known]
    for entry in document["components"]:
        is_ours = (ROOT / "crates" / entry["name"]).is_dir()
        if not is_ours and not ("hashes" in entry and "licenses" in entry):
            problems.append(f"{entry['purl']} has no checksum or no licence")
    if len(known) != len(document["components"]) + 1:
        problems.append("a component is named twice")
    return problems


if __name__ == "__main__":
    main()
