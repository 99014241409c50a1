"""launch/gke: the manifest by its schema and by the cluster's rules, and the commands that reach kubectl."""

import json
import re
import shlex
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

SCHEMA = json.loads((Path(__file__).parent / "jobset.schema.json").read_text())
SLICE = {
    "CONFIG": "configs/nn1.py",
    "WORKDIR": "gs://bucket/nn1",
    "IMAGE": "us-docker.pkg.dev/project/repository/facenet-jax:1",
    "ACCELERATOR": "tpu-v5-lite-podslice",
    "TOPOLOGY": "4x4",
}
# Without characters that YAML cannot write in plain text, and line breaks, which cannot be typed in a shell.
PRINTABLE = st.characters(
    blacklist_categories=("Cs", "Cc", "Cn", "Zl", "Zp"), blacklist_characters="\ufeff\ufffe\uffff"
)


def run(launchers, *words, **more):
    return launchers.run("gke/launch.sh", *words, **{**SLICE, **more})


def manifest(launchers, **more):
    return yaml.safe_load(run(launchers, "manifest", **more))


def job_of(jobset):
    return jobset["spec"]["replicatedJobs"][0]["template"]["spec"]


def container_of(jobset):
    return job_of(jobset)["template"]["spec"]["containers"][0]


def test_the_manifest_fits_its_schema(launchers):
    jobset = manifest(launchers, ARGS="--config.data.path='my photos'")
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(jobset, SCHEMA)
    assert not re.search("@[A-Z]+@", yaml.safe_dump(jobset))
    assert jobset["metadata"]["name"] == "facenet-nn1"
    job, pod = job_of(jobset), job_of(jobset)["template"]["spec"]
    assert (job["parallelism"], job["completions"], job["completionMode"]) == (4, 4, "Indexed")
    assert pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"] == "4x4"
    assert container_of(jobset)["resources"]["limits"] == {"google.com/tpu": 4}
    assert {mount["name"] for mount in container_of(jobset)["volumeMounts"]} <= {v["name"] for v in pod["volumes"]}


def test_several_slices_are_replicas_of_one_job(launchers):
    jobset = manifest(launchers, SLICES="4", TOPOLOGY="16x16")
    jsonschema.validate(jobset, SCHEMA)
    assert jobset["spec"]["replicatedJobs"][0]["replicas"] == 4
    assert job_of(jobset)["parallelism"] == 64
    # Each Job on a node pool of its own, whose chips are linked.
    topology = jobset["metadata"]["annotations"]["alpha.jobset.sigs.k8s.io/exclusive-topology"]
    assert topology == "cloud.google.com/gke-nodepool"
    assert manifest(launchers)["spec"]["replicatedJobs"][0]["replicas"] == 1


def test_a_dataset_in_a_bucket_is_mounted_and_trained_on(launchers):
    jobset = manifest(launchers, DATA="gs://my-bucket/faces/of-2026", ARGS="--config.steps=5")
    jsonschema.validate(jobset, SCHEMA)
    pod = job_of(jobset)["template"]["spec"]
    assert job_of(jobset)["template"]["metadata"]["annotations"] == {"gke-gcsfuse/volumes": "true"}
    assert pod["serviceAccountName"] == "default"
    volume = next(volume for volume in pod["volumes"] if volume["name"] == "data")
    assert volume["csi"] == {
        "driver": "gcsfuse.csi.storage.gke.io",
        "readOnly": True,
        "volumeAttributes": {"bucketName": "my-bucket", "mountOptions": "implicit-dirs,only-dir=faces/of-2026"},
    }
    mount = next(mount for mount in container_of(jobset)["volumeMounts"] if mount["name"] == "data")
    assert mount == {"name": "data", "mountPath": "/mnt/facenet-data", "readOnly": True}
    assert container_of(jobset)["command"][5:] == ["--config.data.path=/mnt/facenet-data", "--config.steps=5"]
    whole = job_of(manifest(launchers, DATA="gs://my-bucket"))["template"]["spec"]["volumes"][-1]
    assert whole["csi"]["volumeAttributes"]["mountOptions"] == "implicit-dirs"
    without = job_of(manifest(launchers))["template"]
    assert "annotations" not in without["metadata"]
    assert [volume["name"] for volume in without["spec"]["volumes"]] == ["shared-memory"]


@pytest.mark.parametrize(
    ("field", "value"),
    [("backofLimit", 0), ("completionMode", "indexed"), ("parallelism", "4"), ("podFailurePolicy", {"rules": [{}]})],
)
def test_the_schema_refuses_what_the_cluster_would(launchers, field, value):
    jobset = manifest(launchers)
    job_of(jobset)[field] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(jobset, SCHEMA)


def becomes(jobset, code, disrupted=False):
    """JobSet's action after a pod ended with a code, by Job's podFailurePolicy and JobSet's failurePolicy."""
    reason = "BackoffLimitExceeded" if job_of(jobset)["backoffLimit"] == 0 else None
    message = "Job has reached the specified backoff limit"
    for index, rule in enumerate(job_of(jobset)["podFailurePolicy"]["rules"]):
        codes = rule.get("onExitCodes", {})
        assert codes.get("containerName", container_of(jobset)["name"]) == container_of(jobset)["name"]
        conditions = [condition["type"] for condition in rule.get("onPodConditions", [])]
        if code in codes.get("values", []) or (disrupted and "DisruptionTarget" in conditions):
            assert rule["action"] == "FailJob"
            reason = "PodFailurePolicy"
            message = f"Container train for pod default/0 failed with exit code {code} matching FailJob rule"
            message += f" at index {index}"
            break
    for rule in jobset["spec"]["failurePolicy"]["rules"]:
        patterns = rule.get("onJobFailureMessagePatterns", [""])
        if reason in rule["onJobFailureReasons"] and any(re.search(pattern, message) for pattern in patterns):
            return rule["action"]
    return "RestartJobSet"


def test_saved_and_preempted_runs_are_started_again_without_counting(launchers):
    jobset = manifest(launchers, RESTARTS="7")
    assert becomes(jobset, 143) == "RestartJobSetAndIgnoreMaxRestarts"
    assert becomes(jobset, 137, disrupted=True) == "RestartJobSetAndIgnoreMaxRestarts"
    for code in (1, 134, 137):
        assert becomes(jobset, code) == "RestartJobSet"
    assert jobset["spec"]["failurePolicy"]["maxRestarts"] == 7


def test_bad_input_is_not_tried_again(launchers):
    assert becomes(manifest(launchers), 2) == "FailJobSet"


@settings(max_examples=15)
@given(st.lists(st.text(PRINTABLE, max_size=12), max_size=5))
def test_words_reach_the_container_unchanged(shared_launchers, words):
    command = container_of(manifest(shared_launchers, ARGS=shlex.join(words)))["command"]
    # Kubernetes reads $$( as the characters $(
    assert [word.replace("$$(", "$(") for word in command[5:]] == words
    assert command[:5] == [
        "facenet-jax",
        "train",
        "--distributed",
        "--config=configs/nn1.py",
        "--workdir=gs://bucket/nn1",
    ]


def test_kubernetes_is_kept_from_expanding(launchers):
    command = container_of(manifest(launchers, ARGS="'--config.data.path=my photos' '--a=$(HOME)' @IMAGE@"))["command"]
    assert command[5:] == ["--config.data.path=my photos", "--a=$$(HOME)", "@IMAGE@"]


@pytest.mark.parametrize(
    ("topology", "chips", "nodes"), [("2x4", "4", 2), ("2x4", "8", 1), ("16x16", "4", 64), ("4x4x8", "4", 32)]
)
def test_nodes_follow_from_the_topology(launchers, topology, chips, nodes):
    assert job_of(manifest(launchers, TOPOLOGY=topology, CHIPS=chips))["parallelism"] == nodes


def test_the_dry_run_prints_the_commands_and_runs_none(launchers, commands):
    for command in ("image", "submit"):
        output = run(launchers, "--dry-run", command)
        dry = commands(output)
        assert launchers.calls() == []
        assert not (launchers.root / "build").exists()
    file = launchers.root / "build/launch/facenet-nn1/jobset.yaml"
    output = run(launchers, "submit")
    assert launchers.calls() == dry == [["kubectl", "apply", f"--filename={file.relative_to(launchers.root)}"]]
    assert yaml.safe_load(file.read_text()) == manifest(launchers)
    assert "billed by the hour" in output


def test_the_image_is_made_from_a_commit(launchers):
    run(launchers, "image")
    build, push = launchers.calls()
    assert build[:3] == ["docker", "build", "--platform=linux/amd64"]
    assert build[3:] == ["--file=launch/gke/Dockerfile", f"--tag={SLICE['IMAGE']}", "-"]
    assert push == ["docker", "push", SLICE["IMAGE"]]


def test_delete_asks(launchers):
    for typed in ("", "n\n"):
        run(launchers, "delete", typed=typed, code=1)
        assert launchers.calls() == []
    assert "billed by the hour" in run(launchers, "delete", typed="y\n")
    assert launchers.calls() == [["kubectl", "delete", "jobset", "facenet-nn1"]]


def test_status_follow_and_collect(launchers):
    assert "billed by the hour" in run(launchers, "status")
    assert launchers.calls()[0] == ["kubectl", "get", "jobset", "facenet-nn1"]
    run(launchers, "follow")
    first = "batch.kubernetes.io/job-completion-index=0"
    assert launchers.calls()[0][-1] == f"--selector=jobset.sigs.k8s.io/jobset-name=facenet-nn1,{first}"
    run(launchers, "collect")
    assert launchers.calls() == [["gcloud", "storage", "rsync", "--recursive", "gs://bucket/nn1", "runs/facenet-nn1"]]


def test_bad_input_is_one_sentence(launchers):
    def refused(*words, **environment):
        error = run(launchers, *words, code=2, **environment)
        assert launchers.calls() == []
        return error

    assert "give IMAGE" in refused("submit", IMAGE="")
    assert "IMAGE=a: b" in refused("submit", IMAGE="a: b")
    assert "give ACCELERATOR" in refused("submit", ACCELERATOR="")
    assert "give TOPOLOGY" in refused("submit", TOPOLOGY="16")
    assert "16 chips, which nodes of 5" in refused("submit", CHIPS="5")
    assert "give the number of slices" in refused("submit", SLICES="two")
    assert "is one node" in refused("submit", SLICES="2", TOPOLOGY="2x2")
    for data in ("faces", "s3://bucket", "gs://", "gs://bucket/my photos", "gs://bucket/a,b"):
        assert f"DATA={data}: give gs://BUCKET/FOLDER" in refused("submit", DATA=data)
    assert "a folder of one machine" in refused("submit", WORKDIR="runs/nn1")
    assert "only gs://" in refused("collect", WORKDIR="/mnt/nn1")
    assert "not a command" in refused("apply")
