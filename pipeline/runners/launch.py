"""TFX's side of a run: the pipeline compiled, and its components launched."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config import PipelineConfig
from pipeline.runners.store import Store
from pipeline.runners.versions import content_version


@dataclass(frozen=True)
class Launched:
    """A component that has ended.

    uris: output -> where it is.
    pushed: the Pusher's folder, or "".
    cached: whether the outputs are those of an earlier run.
    """

    uris: dict[str, str]
    pushed: str
    cached: bool


class CompiledPipeline:
    """The pipeline of a config, ready to be launched node by node.

    Args:
        config: of the pipeline.
        home: the folder of the pipeline's runs.
        store: what its runs share.
        run: the run's id.
        data: the version of the logs.
        model: that of the user's own code in the training.
        metrics: that of the user's own code in the evaluation.

    Attributes:
        codes: component -> version of its code.
    """

    def __init__(
        self,
        config: PipelineConfig,
        home: Path,
        store: Store,
        run: str,
        data: str,
        model: str,
        metrics: str,
    ) -> None:
        from tfx.dsl.compiler import compiler
        from tfx.orchestration import metadata
        from tfx.orchestration.local import runner_utils
        from tfx.orchestration.portable import runtime_parameter_utils

        from components.batching import prefer_large_batches
        from components.warm_start.executor import base_version
        from pipeline import dag

        self.codes = dag.code_versions()
        prefer_large_batches()
        self._connection = metadata.sqlite_metadata_connection_config(
            str(store.database)
        )
        base = base_version(
            config.train.warm_start,
            dag.pushed_to(config),
            dag.training(config, data),
        )
        self._pipeline = compiler.Compiler().compile(
            dag.create_pipeline(
                config,
                str(store.artifacts),
                dag.Versions(
                    data,
                    self.codes,
                    base,
                    model,
                    content_version(config.data.curated_schema),
                    metrics,
                ),
                self._connection,
                analysis_cache=str(home / "analysis_cache"),
                trials=str(store.trials),
                checkpoints=str(store.checkpoints),
            )
        )
        runtime_parameter_utils.substitute_runtime_parameter(
            self._pipeline, {"pipeline-run-id": f"{run}-{uuid.uuid4().hex}"}
        )
        self._deployment = runner_utils.extract_local_deployment_config(
            self._pipeline
        )

    @property
    def nodes(self) -> list[Any]:
        """The components, in order; `node_info.id` is the name of each."""
        return [item.pipeline_node for item in self._pipeline.nodes]

    def launch(self, node: Any) -> Launched:
        """Runs one component, or finds its outputs in the cache."""
        from ml_metadata.proto import metadata_store_pb2
        from tfx.orchestration import metadata
        from tfx.orchestration.local import runner_utils
        from tfx.orchestration.portable import launcher
        from tfx.orchestration.portable.mlmd import execution_lib

        name = node.node_info.id
        store = metadata.Metadata(self._connection)
        info = launcher.Launcher(
            pipeline_node=node,
            mlmd_connection=store,
            pipeline_info=self._pipeline.pipeline_info,
            pipeline_runtime_spec=self._pipeline.runtime_spec,
            executor_spec=runner_utils.extract_executor_spec(
                self._deployment, name
            ),
            custom_driver_spec=runner_utils.extract_custom_driver_spec(
                self._deployment, name
            ),
        ).launch()
        with store as handle:
            (execution,) = handle.store.get_executions_by_id(
                [info.execution_id]
            )
            outputs = execution_lib.get_output_artifacts(
                handle, info.execution_id
            )
        pushed = ""
        if "pushed_model" in outputs:
            (artifact,) = outputs["pushed_model"]
            pushed = artifact.get_string_custom_property("pushed_destination")
        return Launched(
            {key: artifacts[0].uri for key, artifacts in outputs.items()},
            pushed,
            execution.last_known_state == metadata_store_pb2.Execution.CACHED,
        )
