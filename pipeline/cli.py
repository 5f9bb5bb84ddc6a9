"""The `lionctr` command. Slow imports happen inside the commands."""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.runners.kubeflow.api import Access

from pipeline.console import lost, standard_streams, unwritten


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns 0 (done), 1 (failed, refused) or 2 (input).

    And 141, as after SIGPIPE, where all is well but the reader of standard
    output went away.
    """
    standard_streams()
    try:
        code = _command(arguments)
    except SystemExit as end:  # of --help, and of arguments that are wrong
        code = end.code if isinstance(end.code, int) else 0
        if lost(sys.stdout) is None:
            raise
    error = lost(sys.stdout)
    if error is None:
        return code
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what is still buffered
    if error.errno == errno.EPIPE:
        return code or 128 + signal.SIGPIPE
    print(f"lionctr: {unwritten(error)}", file=sys.stderr)
    return code or 1


def _command(arguments: list[str] | None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    # TensorFlow's start-up notices are noise in every command.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        return int(options.command(options))
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 1
    except Exception as error:
        if isinstance(error, OSError) and lost(sys.stdout) is not None:
            return 0  # but for the output
        if options.debug:
            raise
        extra = _extra(error)
        if extra is not None:
            install = f"pip install 'lion-ctr[{extra}]'"
            print(f"lionctr: {error}; run {install}", file=sys.stderr)
            return 2
        print(f"lionctr: {error}", file=sys.stderr)
        # `models.errors.UserError` has one; so has the server's own error,
        # which cannot be a subclass: `serving` imports no other room.
        return int(getattr(error, "exit_code", 1))


# Extra -> packages that it installs and that the commands import.
_EXTRAS = {
    "pipeline": "apache_beam fastavro google_crc32c jinja2 keras_rs keras_tuner"
    " matplotlib ml_metadata pandas pyarrow tensorboard"
    " tensorflow_data_validation tensorflow_metadata tensorflow_model_analysis"
    " tensorflow_recommenders tensorflow_transform tf_keras tfx tfx_bsl"
    " threadpoolctl yaml",
    "kubeflow": "kfp kubernetes urllib3",
    "serving": "fastapi grpc orjson prometheus_client"
    " starlette tensorflow_serving uvicorn uvloop",
    "signing": "model_signing",
}


def _extra(error: Exception) -> str | None:
    """The extra that installs the missing package; None for other errors."""
    if not isinstance(error, ModuleNotFoundError):
        return None
    package = (error.name or "").partition(".")[0]
    for extra, packages in _EXTRAS.items():
        if package in packages.split():
            return extra
    return None


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show tracebacks")
    parser = argparse.ArgumentParser(
        prog="lionctr",
        description="Click logs in, a validated and served CTR model out.",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    generate = commands.add_parser(
        "generate", parents=[common], help="write click logs to try things on"
    )
    generate.add_argument("--rows", type=int, required=True)
    generate.add_argument("--out", type=_path, required=True)
    generate.add_argument("--seed", type=int, default=1)
    generate.add_argument(
        "--format",
        default="tsv",
        choices=("tsv", "csv", "jsonl", "parquet"),
    )
    generate.add_argument(
        "--shape",
        default="ads",
        choices=("ads", "criteo", "shop"),
        help="ads: impressions, clicks, truth; criteo: 13 + 26 columns; shop:"
        " as ads, but only what a user clicked before tells what comes next",
    )
    generate.add_argument(
        "--days",
        type=int,
        help="so many folders, a day each, with --rows rows a day",
    )
    generate.add_argument(
        "--drift",
        type=float,
        default=0.0,
        help="with --days: share of users, ads and effects that is new a day",
    )
    generate.add_argument(
        "--position-bias",
        type=float,
        default=0.0,
        help="shape ads: how much a worse slot of a page costs clicks; 1 is"
        " much. Adds the column slot",
    )
    generate.add_argument(
        "--policy-bias",
        type=float,
        default=0.0,
        help="shape ads: how much a banner counts, which a policy chose; 1 is"
        " much. Adds the columns banner and propensity",
    )
    generate.add_argument(
        "--conversions",
        action="store_true",
        help="shape ads: clicks are followed by conversions. Adds the columns"
        " conversion and converted, and a log of orders",
    )
    generate.add_argument(
        "--reuse",
        action="store_true",
        help="do nothing if the folder holds these very logs",
    )
    generate.set_defaults(command=_generate)

    run = commands.add_parser(
        "run", parents=[common], help="run a pipeline on this machine"
    )
    _config_arguments(run)
    run.add_argument(
        "--json", action="store_true", help="print summary.json, alone"
    )
    run.set_defaults(command=_run)

    check = commands.add_parser(
        "check",
        parents=[common],
        help="look for mistakes in a config, its paths and its columns, or"
        " test code of your own",
    )
    check.add_argument(
        "what",
        type=_text_path,
        metavar="CONFIG|MODULE:NAME",
        help="a config; or an architecture, an optimizer, a metric, a gate, a"
        " callback or a log format of your own, as a config names it",
    )
    _settings_argument(check)
    check.add_argument(
        "--sample",
        type=_path,
        metavar="FILE",
        help="with a log format: a file of three rows or more",
    )
    check.set_defaults(command=_check)

    config = commands.add_parser(
        "config", parents=[common], help="print the config's JSON schema"
    )
    config.add_argument(
        "--schema",
        action="store_true",
        required=True,
        help="print the JSON schema, for editors",
    )
    config.set_defaults(command=_config)

    compare = commands.add_parser(
        "compare", parents=[common], help="compare optimizers or models"
    )
    _config_arguments(compare)
    compare.add_argument(
        "--optimizers",
        default="",
        metavar="NAME,NAME...",
        help="default: lion,adamw,adagrad,ftrl; with --models the config's",
    )
    compare.add_argument(
        "--models",
        default="",
        metavar="NAME,NAME...",
        help="architectures to compare, or `all` (default: the config's);"
        " NAME+pieces, NAME+buckets: on pieces or buckets of the numbers",
    )
    compare.add_argument(
        "--output",
        default="ctr",
        metavar="NAME",
        help="of several labels, the output that settings are chosen by, such"
        " as cvr (default: ctr); all outputs are judged",
    )
    compare.add_argument("--seeds", type=int, default=5)
    compare.add_argument(
        "--out",
        type=_path,
        metavar="DIR",
        help="where results go (default: <root>/<name>/compare)",
    )
    compare.add_argument(
        "--json", action="store_true", help="print compare.json, alone"
    )
    compare.set_defaults(command=_compare)

    rejected = commands.add_parser(
        "rejected",
        parents=[common],
        help="show the rows that a run did not use, and why",
    )
    rejected.add_argument(
        "run",
        metavar="RUN",
        type=_text_path,
        help="a run's id or folder, `last`, or a config: its last run",
    )
    rejected.add_argument(
        "--reason", default="", help="only rows whose reason has this text"
    )
    rejected.add_argument(
        "--limit", type=int, default=20, help="rows shown; 0: all"
    )
    rejected.add_argument(
        "--root",
        type=_text_path,
        default="runs",
        help="where runs are (default: runs)",
    )
    rejected.add_argument(
        "--json", action="store_true", help="print one JSON object"
    )
    rejected.set_defaults(command=_rejected)

    report = commands.add_parser(
        "report", parents=[common], help="print the path of a run's report.html"
    )
    report.add_argument(
        "run",
        metavar="RUN",
        type=_text_path,
        help="a run's id or folder, `last`, or a config: its last run",
    )
    report.add_argument(
        "--root",
        type=_text_path,
        default="runs",
        help="where runs are (default: runs)",
    )
    report.set_defaults(command=_report)

    runs = commands.add_parser(
        "runs", parents=[common], help="list a pipeline's runs; compare two"
    )
    runs.add_argument(
        "name",
        nargs="?",
        default="",
        metavar="CONFIG|NAME",
        type=_text_path,
        help="a pipeline's config or name (default: all in --root)",
    )
    runs.add_argument(
        "--sort", metavar="METRIC", default="", help="such as logloss or auc"
    )
    runs.add_argument(
        "--diff",
        nargs=2,
        metavar=("A", "B"),
        help="settings and metrics of two runs, side by side",
    )
    runs.add_argument(
        "--html",
        action="store_true",
        help="write an index page of the runs; print its path",
    )
    runs.add_argument(
        "--keep",
        type=int,
        metavar="N",
        help="delete all but the newest N, and those pushed or reused",
    )
    runs.add_argument(
        "--dry-run", action="store_true", help="with --keep: delete nothing"
    )
    runs.add_argument(
        "--root",
        type=_text_path,
        default="runs",
        help="where runs are (default: runs)",
    )
    runs.add_argument(
        "--json", action="store_true", help="print one JSON object"
    )
    runs.set_defaults(command=_runs)

    compile_ = commands.add_parser(
        "compile", parents=[common], help="write Kubeflow Pipelines v2 IR"
    )
    _config_arguments(compile_)
    compile_.add_argument("--image", required=True)
    compile_.add_argument("--out", type=_path, required=True)
    compile_.set_defaults(command=_compile)

    submit = commands.add_parser(
        "submit", parents=[common], help="run a pipeline on Kubeflow"
    )
    _config_arguments(submit)
    submit.add_argument("--image", help="required without --version")
    _kubeflow_arguments(submit)
    submit.add_argument("--experiment", default="lion-ctr")
    submit.add_argument(
        "--service-account", metavar="NAME", help="of the run's pods"
    )
    submit.add_argument(
        "--wait", action="store_true", help="until the run has ended"
    )
    submit.add_argument(
        "--timeout",
        metavar="DURATION",
        help="with --wait: how long, such as 90, 30m, 6h; the run goes on",
    )
    submit.add_argument(
        "--upload",
        action="store_true",
        help="keep the pipeline in Kubeflow, a version for each content",
    )
    submit.add_argument(
        "--cron",
        metavar='"M H D M W"',
        help='a recurring run, such as "0 3 * * *"; with --upload',
    )
    submit.add_argument(
        "--until", metavar="SPAN", help="the last of data.spans, for this run"
    )
    submit.add_argument(
        "--version",
        metavar="NAME|latest",
        help="run a version that Kubeflow keeps; --set holds for this run",
    )
    submit.set_defaults(command=_submit)

    schedule = commands.add_parser(
        "schedule", parents=[common], help="Kubeflow's recurring runs"
    )
    schedule.add_argument(
        "action", choices=("list", "pause", "resume", "delete")
    )
    schedule.add_argument("which", nargs="?", metavar="ID|NAME")
    _kubeflow_arguments(schedule)
    schedule.set_defaults(command=_schedule)

    serve = commands.add_parser(
        "serve", parents=[common], help="serve a pushed model"
    )
    serve.add_argument(
        "model_dir",
        type=_text_path,
        metavar="MODEL_DIR",
        help="<push.to>/<name>: a folder, gs:// or s3://",
    )
    serve.add_argument("--port", type=int, default=8501)
    serve.add_argument("--grpc-port", type=int, default=8500)
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument(
        "--name", help="of the model (default: the folder's name)"
    )
    serve.add_argument(
        "--pin",
        type=int,
        metavar="V",
        help="the version to serve (default: the pinned or newest one)",
    )
    serve.add_argument(
        "--allow-input-change",
        action="store_true",
        help="let a new version take other inputs than the served one",
    )
    serve.add_argument(
        "--verify",
        type=_path,
        metavar="KEY",
        help="serve only versions that are signed; a public key in PEM",
    )
    serve.add_argument(
        "--ignore-unknown",
        action="store_true",
        help="leave out columns that are no feature, to replay a log",
    )
    serve.add_argument(
        "--token-file",
        type=_path,
        metavar="FILE",
        help="its first line is what clients send as bearer token",
    )
    serve.add_argument(
        "--tls-cert", type=_path, metavar="PEM", help="serve by TLS"
    )
    serve.add_argument(
        "--tls-key", type=_path, metavar="PEM", help="of --tls-cert"
    )
    serve.add_argument(
        "--tls-client-ca",
        type=_path,
        metavar="PEM",
        help="clients need a certificate that it signed (mutual TLS)",
    )
    serve.add_argument(
        "--batch-wait-ms",
        type=_amount,
        default=0.0,
        metavar="MS",
        help="how long a request waits for others (default: not at all)",
    )
    serve.add_argument(
        "--max-body-mb",
        type=_amount,
        default=64.0,
        metavar="MB",
        help="of a request, decompressed; more is answered with 413",
    )
    serve.add_argument(
        "--max-rows",
        type=_amount,
        default=100_000,
        metavar="N",
        help="of a request; more is answered with 413",
    )
    serve.add_argument(
        "--max-waiting-rows",
        type=_amount,
        default=65_536,
        metavar="N",
        help="that wait for the model; more is answered with 503",
    )
    serve.add_argument(
        "--log-requests",
        type=_path,
        metavar="DIR",
        help="write requests and predictions there, as parquet",
    )
    serve.add_argument(
        "--share",
        type=_amount,
        default=0.01,
        metavar="SHARE",
        help="with --log-requests: of the requests (default: 0.01)",
    )
    serve.add_argument(
        "--log-file-mb",
        type=_amount,
        default=64.0,
        metavar="MB",
        help="with --log-requests: size at which a file is ended",
    )
    serve.add_argument(
        "--log-file-seconds",
        type=_amount,
        default=600.0,
        metavar="S",
        help="with --log-requests: age at which a file is ended",
    )
    serve.set_defaults(command=_serve)

    models = commands.add_parser(
        "models",
        parents=[common],
        help="list a model's versions; verify, roll back, pin",
    )
    models.add_argument(
        "name",
        metavar="NAME",
        type=_text_path,
        help="a model's name, the folder of its versions, or its config",
    )
    models.add_argument(
        "action",
        nargs="?",
        choices=("verify", "rollback", "pin", "unpin"),
        help="default: list the versions, and which one is served",
    )
    models.add_argument(
        "version",
        nargs="?",
        type=int,
        metavar="V",
        help="the version to pin, or to roll back to",
    )
    models.add_argument(
        "--to",
        type=_text_path,
        default="serving_models",
        metavar="DIR",
        help="push.to, where a name is looked for (default: serving_models)",
    )
    models.add_argument(
        "--json", action="store_true", help="print one JSON object"
    )
    models.set_defaults(command=_models)

    predict = commands.add_parser(
        "predict", parents=[common], help="score a log with a pushed model"
    )
    predict.add_argument(
        "model",
        metavar="MODEL",
        type=_text_path,
        help="a model's name, the folder of its versions, its config, or the"
        " folder of one version",
    )
    predict.add_argument(
        "logs",
        nargs="+",
        metavar="LOGS",
        help="files, folders or globs, as in data.impressions.path",
    )
    predict.add_argument("--out", type=_path, required=True, metavar="DIR")
    predict.add_argument(
        "--columns",
        default="",
        metavar="NAME,NAME...",
        help="of the log, to keep beside the predictions, as text",
    )
    predict.add_argument(
        "--format", default="parquet", choices=("parquet", "csv")
    )
    predict.add_argument(
        "--config",
        type=_path,
        metavar="CONFIG",
        help="how the log is read (default: as the model's log was)",
    )
    predict.add_argument(
        "--since",
        metavar="DAY",
        help="the first day, with {DATE} in LOGS (default: the last alone)",
    )
    predict.add_argument(
        "--until", metavar="DAY", help="the last day (default: the newest)"
    )
    predict.add_argument(
        "--max-rejected",
        type=_amount,
        metavar="SHARE",
        help="of the rows (default: data.max_rejected of the config)",
    )
    predict.add_argument(
        "--beam",
        action="append",
        default=[],
        metavar="OPTION",
        help="of Beam, such as --beam=--runner=FlinkRunner",
    )
    predict.add_argument(
        "--to",
        type=_text_path,
        default="serving_models",
        metavar="DIR",
        help="push.to, where a name is looked for (default: serving_models)",
    )
    predict.add_argument(
        "--json", action="store_true", help="print one JSON object"
    )
    predict.set_defaults(command=_predict)

    doctor = commands.add_parser(
        "doctor", parents=[common], help="check this installation"
    )
    doctor.set_defaults(command=_doctor)
    return parser


def _path(text: str) -> Path:
    """A path of the command line; the shell expands no `--out=~/x`."""
    return Path(_text_path(text))


def _amount(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(
            f"expected a number from 0 on. Received: {text!r}"
        )
    return value


def _text_path(text: str) -> str:
    from models.config.paths import expanded

    try:
        return expanded(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _config_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=_path, metavar="CONFIG")
    _settings_argument(parser)


def _settings_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="path.to.field=value",
        help="override a setting; may be given several times",
    )


def _kubeflow_arguments(parser: argparse.ArgumentParser) -> None:
    """Where Kubeflow's API is, and with what it lets one in."""
    parser.add_argument("--host", required=True)
    parser.add_argument("--namespace", help="with several users: yours")
    parser.add_argument(
        "--token", help="bearer token; others may see it: better KFP_TOKEN"
    )
    parser.add_argument("--token-file", type=Path, metavar="FILE")
    parser.add_argument(
        "--cookies", metavar="NAME=VALUE|FILE", help="of a browser's login"
    )
    parser.add_argument(
        "--ca-file", type=Path, metavar="PEM", help="who signs the server's key"
    )


def _generate(options: argparse.Namespace) -> int:
    from pipeline.commands.generate import (
        GenerateError,
        generate,
        generate_days,
    )

    if options.days is not None:
        if options.shape != "ads" or options.days < 1:
            raise GenerateError(
                "--days must be 1 or more, with --shape ads. Received:"
                f" {options.days}, {options.shape}"
            )
        for summary in generate_days(
            options.rows,
            options.out,
            options.days,
            seed=options.seed,
            format=options.format,
            drift=options.drift,
            reuse=options.reuse,
            position_bias=options.position_bias,
            policy_bias=options.policy_bias,
            conversions=options.conversions,
        ):
            print(f"{summary}\n")
        return 0
    if options.drift:
        raise GenerateError("--drift needs --days")
    summary = generate(
        options.rows,
        options.out,
        seed=options.seed,
        format=options.format,
        shape=options.shape,
        reuse=options.reuse,
        position_bias=options.position_bias,
        policy_bias=options.policy_bias,
        conversions=options.conversions,
    )
    print(summary)
    return 0


def _run(options: argparse.Namespace) -> int:
    from pipeline.config import load

    config = load(options.config, options.set)
    from pipeline.runners import local

    return local.run(config, options.debug, options.json)


def _check(options: argparse.Namespace) -> int:
    path = Path(options.what)
    if path.suffix in (".yaml", ".yml") or path.exists():
        from pipeline.preflight import checks

        return checks.check(path, options.set)
    from pipeline.commands import check_extension

    return check_extension.check(options.what, options.set, options.sample)


def _config(options: argparse.Namespace) -> int:
    from pipeline import schema

    print(schema.text())
    return 0


def _compare(options: argparse.Namespace) -> int:
    from pipeline.comparison.command import compare

    return compare(
        options.config,
        options.set,
        options.optimizers,
        options.models,
        options.seeds,
        options.out,
        options.json,
        options.output,
    )


def _rejected(options: argparse.Namespace) -> int:
    from pipeline.commands import rejected

    return rejected.show(
        options.run,
        options.root,
        options.reason,
        options.limit,
        options.json,
    )


def _report(options: argparse.Namespace) -> int:
    from pipeline.report import page

    print(page.path_of(options.run, options.root))
    return 0


def _runs(options: argparse.Namespace) -> int:
    from pipeline.commands import runs

    return runs.main(
        options.name,
        options.root,
        runs.Options(
            options.sort,
            options.diff,
            options.keep,
            options.dry_run,
            options.json,
            options.html,
        ),
    )


def _compile(options: argparse.Namespace) -> int:
    from pipeline.config import load

    config = load(options.config, options.set)
    from pipeline.runners.kubeflow import compiler

    compiler.compile_to(config, options.image, options.out)
    print(f"wrote {options.out}")
    return 0


def _submit(options: argparse.Namespace) -> int:
    from pipeline.config import load

    config = load(options.config, options.set)
    from pipeline.runners.kubeflow import submit as kubeflow_submit

    return kubeflow_submit.submit(
        config,
        options.image,
        _access(options),
        kubeflow_submit.RunOptions(
            options.experiment,
            options.service_account,
            options.wait,
            kubeflow_submit.seconds(options.timeout),
            options.upload,
            options.cron,
            options.until,
            options.version,
            options.set,
        ),
    )


def _schedule(options: argparse.Namespace) -> int:
    from pipeline.runners.kubeflow import schedule as kubeflow_schedule

    access = _access(options)
    return kubeflow_schedule.manage(access, options.action, options.which)


def _access(options: argparse.Namespace) -> Access:
    from pipeline.runners.kubeflow.api import Access

    return Access(
        options.host,
        options.namespace,
        options.token,
        options.token_file,
        options.cookies,
        options.ca_file,
    )


def _serve(options: argparse.Namespace) -> int:
    from serving.access import Access
    from serving.limits import Limits, LogOptions
    from serving.server import serve

    limits = Limits(
        body=int(options.max_body_mb * (1 << 20)),
        rows=int(options.max_rows),
        waiting=int(options.max_waiting_rows),
        batch_wait=options.batch_wait_ms / 1000,
    )
    serve(
        options.model_dir,
        port=options.port,
        grpc_port=options.grpc_port,
        host=options.host,
        allow_input_change=options.allow_input_change,
        public_key=options.verify,
        name=options.name,
        pin=options.pin,
        limits=limits,
        ignore_unknown=options.ignore_unknown,
        access=Access.of(
            options.token_file,
            options.tls_cert,
            options.tls_key,
            options.tls_client_ca,
        ),
        log_requests=LogOptions(
            options.log_requests,
            options.share,
            int(options.log_file_mb * (1 << 20)),
            options.log_file_seconds,
        )
        if options.log_requests
        else None,
    )
    return 0


def _models(options: argparse.Namespace) -> int:
    from pipeline.commands import models as model_versions

    return model_versions.main(
        options.name,
        options.action,
        options.version,
        options.to,
        options.json,
    )


def _predict(options: argparse.Namespace) -> int:
    from pipeline.commands import predict
    from pipeline.prediction.job import Output

    keep = tuple(name for name in options.columns.split(",") if name)
    return predict.predict(
        options.model,
        options.logs,
        Output(options.out, options.format, keep),
        options.to,
        options.config,
        options.since,
        options.until,
        options.max_rejected,
        options.beam,
        options.json,
    )


def _doctor(options: argparse.Namespace) -> int:
    from pipeline.commands import doctor

    return doctor.main()


if __name__ == "__main__":
    sys.exit(main())
