"""What is installed of other people's charts."""

import yaml

from k8s.cluster.addons import as_list

MANIFESTS = """
apiVersion: v1
kind: Service
metadata: {name: one}
---
# only a comment
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: two}
"""


def test_all_but_api_services():
    objects = yaml.safe_load(as_list(MANIFESTS))
    assert objects["kind"] == "List"
    assert [one["metadata"]["name"] for one in objects["items"]] == ["one"]
