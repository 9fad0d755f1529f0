#!/usr/bin/env python3
"""Holds the manifests in deploy/ against the models that KServe's and Kubernetes' own Python packages have.

    python tests/serve/deploy.py        # needs kserve and pyyaml (requirements.txt)

Every object is read into the class of its kind, which refuses missing fields and wrong types, and written again: a field that the
class does not know would be lost, and is an error here.
"""

import json
from pathlib import Path

import kserve
import kubernetes.client as kubernetes
import yaml

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
KINDS = {
    "Deployment": kubernetes.V1Deployment,
    "Service": kubernetes.V1Service,
    "HorizontalPodAutoscaler": kubernetes.V2HorizontalPodAutoscaler,
    "ServingRuntime": kserve.V1alpha1ServingRuntime,
    "InferenceService": kserve.V1beta1InferenceService,
}


class Answer:
    """What the packages' readers take in place of an answer of a cluster."""

    def __init__(self, document):
        self.data = json.dumps(document)


def read(document):
    kind = KINDS[document["kind"]]
    client = kubernetes.ApiClient()
    if kind.__module__.startswith("kserve"):
        # KServe's classes name Kubernetes' own in their fields.
        for name in dir(kserve):
            if not hasattr(kubernetes.models, name):
                setattr(kubernetes.models, name, getattr(kserve, name))
    found = client.deserialize(Answer(document), kind)
    return client.sanitize_for_serialization(found)


def main():
    for file in sorted(DEPLOY.glob("*.yaml")):
        for document in yaml.safe_load_all(file.read_text()):
            again = read(document)
            if again != document:
                raise SystemExit(f"error: {file.name}: {document['kind']}: expected\n{document}\ngot\n{again}")
            print(f"{file.name}: {document['kind']} '{document['metadata']['name']}'")


if __name__ == "__main__":
    main()
