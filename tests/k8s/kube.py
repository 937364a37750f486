"""Kubernetes objects as text and as data, and whether each follows its schema to the letter."""

import functools
import json
import pathlib

import importlib_resources
import jsonschema
import kubernetes_validate
import referencing
import yaml

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
K8S = ROOT / "k8s"
GUIDES = [ROOT / folder / "kubernetes.md" for folder in ("docs", "docs/zh-CN")]
OLDEST = (1, 29)
# Kinds of which the packages of Kubernetes know nothing; see schemas/extract.cjs.
CUSTOM = ("PodMonitor", "PrometheusRule", "Certificate", "Issuer")


def load(text):
    """All objects in `text`, YAML or JSON, without empty documents; Lists are opened."""
    objects = []
    for document in documents(text.removeprefix("\ufeff")):
        if isinstance(document, dict) and document.get("kind") == "List":
            objects += document.get("items") or []
        elif document is not None:
            objects.append(document)
    return objects


def documents(text):
    """What stands in a stream: YAML documents, or JSON values with nothing or YAML's markers between them."""
    if not text.lstrip().startswith("{"):
        yield from yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        return
    decoder = json.JSONDecoder()
    while text := text.strip().removeprefix("---").strip():
        document, end = decoder.raw_decode(text)
        yield document
        text = text[end:]


def name(thing):
    """Kind and name, for messages."""
    meta = thing.get("metadata") or {}
    return f"{thing.get('kind')} {meta.get('name') or meta.get('generateName')}"


def template(thing):
    """The metadata and the spec of the pods that an object is or makes, or two times None."""
    spec = thing.get("spec") or {}
    match thing.get("kind"):
        case "Pod":
            return thing.get("metadata") or {}, spec
        case "CronJob":
            made = ((spec.get("jobTemplate") or {}).get("spec") or {}).get("template")
        case "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "Job" | "ReplicationController":
            made = spec.get("template")
        case _:
            made = None
    if not made:
        return None, None
    return made.get("metadata") or {}, made.get("spec") or {}


def versions():
    """From 1.29 to the newest that the package has, oldest first."""
    every = [version for version in kubernetes_validate.utils.all_versions()]
    return [version for version in every if tuple(map(int, version.split(".")[:2])) >= OLDEST]


@functools.cache
def _folder():
    return importlib_resources.files("kubernetes_validate").joinpath("kubernetes-json-schema")


@functools.cache
def _definitions(version):
    text = _folder().joinpath(f"v{version}-local-strict").joinpath("_definitions.json").read_text()
    return referencing.Resource.from_contents(json.loads(text)) @ referencing.Registry()


@functools.cache
def _validator(version, api, kind):
    """The package's own function reads two megabytes for each object."""
    group, _, rest = api.partition("/")
    short = f"{group.split('.')[0]}-{rest}" if rest else group
    file = _folder().joinpath(f"v{version}-local-strict").joinpath(f"{kind.lower()}-{short}.json")
    if not file.is_file():
        return None
    return jsonschema.Draft202012Validator(json.loads(file.read_text()), registry=_definitions(version))


@functools.cache
def _custom(kind):
    return jsonschema.Draft202012Validator(json.loads((HERE / "schemas" / f"{kind}.json").read_text()))


def problems(thing, version):
    """What is wrong with an object, by the strict schemas of a version: sentences."""
    return _problems(json.dumps(thing, default=str), version)


@functools.cache
def _problems(text, version):
    # The same object comes from several places; it is looked at once.
    thing = json.loads(text)
    kind, api = thing.get("kind"), thing.get("apiVersion")
    if not kind or not api:
        return ["no kind or no apiVersion"]
    validator = _custom(kind) if kind in CUSTOM else _validator(version, api, kind)
    if validator is None:
        return [f"Kubernetes {version} has no {api} {kind}"]
    return [f"{name(thing)} at {version}: {error.json_path}: {short(error.message)}" for error in validator.iter_errors(thing)]


def all_problems(things):
    """What is wrong with any of the objects in any version."""
    return [problem for version in versions() for thing in things for problem in problems(thing, version)]


def short(message):
    """A message without the whole object in it."""
    return message if len(message) < 300 else f"{message[:140]} … {message[-140:]}"
