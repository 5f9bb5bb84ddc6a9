"""The server keeps to its OpenAPI, as schemathesis reads and fuzzes it."""

from __future__ import annotations

from collections import Counter

import hypothesis
import pytest
import schemathesis
from schemathesis.checks import not_a_server_error

from tests.serving.tiny import ROW, RunningServer

OURS = (":predict", ":classify", ":regress", "/infer")
KEPT_OUT = ("/load", "/unload", ":explain", "{model_name}")  # KServe's own


def operations(server: RunningServer) -> list[schemathesis.APIOperation]:
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    found = [result.ok() for result in schema.get_all_operations()]
    return [one for one in found if not one.path.endswith(KEPT_OUT)]


def test_the_schema_names_every_path_with_its_body(
    server: RunningServer,
) -> None:
    paths = server.call("/openapi.json")[1]["paths"]
    for place in ("", "/versions/{version}", "/labels/{label}"):
        for verb in OURS[:3]:
            post = paths[f"/v1/models/{{name}}{place}{verb}"]["post"]
            assert "requestBody" in post
            names = {one["name"] for one in post["parameters"]}
            assert names == {"name", *place.partition("{")[2][:-1].split()}
    assert "requestBody" in paths["/v2/models/{name}/infer"]["post"]


@pytest.mark.parametrize(
    "examples", [6, pytest.param(100, marks=pytest.mark.slow)]
)
def test_whatever_fits_the_schema_or_not_is_no_fault_of_the_server(
    server: RunningServer, examples: int
) -> None:
    codes: Counter[int] = Counter()
    settings = hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    found = operations(server)
    assert sum(one.path.endswith(OURS) for one in found) >= 11
    for one in found:

        @hypothesis.given(case=one.as_strategy())
        @settings
        def fuzz(case: schemathesis.Case) -> None:
            # Half of all would name a model that is not there.
            for name in ("name", "model_name"):
                if name in case.path_parameters:
                    case.path_parameters[name] = "tiny"
            response = case.call(base_url=server.url, timeout=20)
            codes[response.status_code] += 1
            case.validate_response(response, checks=[not_a_server_error])

        fuzz()
    assert codes[200] and codes[400] > examples
    assert server.predict({"instances": [ROW]})[0] == 200
