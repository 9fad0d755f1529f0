#!/usr/bin/env python3
"""Holds the manifests in deploy/ against the models that KServe's and Kubernetes' own Python packages have.

    python tests/serve/deploy.py        # needs kserve and pyyaml (requirements.txt)

Every object is read into the class of its kind, which refuses missing fields and wrong types, and written again: a field that the
class does not know would be lost, and is an error here.
"""

import re
from pathlib import Path

import kserve
import kubernetes.client as kubernetes
import yaml

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
KINDS = {
    "Deployment": "V1Deployment",
    "Service": "V1Service",
    "HorizontalPodAutoscaler": "V2HorizontalPodAutoscaler",
    "ServingRuntime": "V1alpha1ServingRuntime",
    "InferenceService": "V1beta1InferenceService",
}
PRIMITIVE = {"str": str, "int": int, "bool": bool, "float": (int, float)}


def read(kind, value, where):
    """What the class of that name makes of a value."""
    if within := re.fullmatch(r"Optional\[(.*)\]", kind):
        return read(within[1], value, where)
    if within := re.fullmatch(r"[lL]ist\[(.*)\]", kind):
        return [read(within[1], item, f"{where}[{index}]") for index, item in enumerate(value)]
    if within := re.fullmatch(r"[dD]ict[\[(]str, (.*)[\])]", kind):
        return {key: read(within[1], item, f"{where}.{key}") for key, item in value.items()}
    if kind == "object":
        return value
    if kind in PRIMITIVE:
        if not isinstance(value, PRIMITIVE[kind]):
            raise SystemExit(f"error: {where}: expected {kind}, got {value!r}")
        return value
    found = getattr(kserve, kind, None) or getattr(kubernetes, kind)
    if hasattr(found, "openapi_types"):
        return of_kserve(found, value, where)
    again = found.from_dict(value).to_dict()
    if again != value:
        raise SystemExit(f"error: {where}: {kind} has read\n{value}\nas\n{again}")
    return found.from_dict(value)


def of_kserve(found, value, where):
    fields = {name: attribute for attribute, name in found.attribute_map.items()}
    unknown = set(value) - set(fields)
    if unknown:
        raise SystemExit(f"error: {where}: {found.__name__} has no {sorted(unknown)}")
    read_fields = {
        fields[name]: read(found.openapi_types[fields[name]], item, f"{where}.{name}") for name, item in value.items()
    }
    # Refuses what is missing.
    return found(**read_fields)


def main():
    for file in sorted(DEPLOY.glob("*.yaml")):
        for document in yaml.safe_load_all(file.read_text()):
            where = f"{file.name}: {document['kind']}"
            if document["kind"] == "MPIJob":
                # No package has its class: its pods are Kubernetes' own.
                for name, replicas in document["spec"]["mpiReplicaSpecs"].items():
                    read("V1PodTemplateSpec", replicas["template"], f"{where}.{name}")
            else:
                read(KINDS[document["kind"]], document, where)
            print(f"{file.name}: {document['kind']} '{document['metadata']['name']}'")


if __name__ == "__main__":
    main()
