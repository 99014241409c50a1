"""launch/tpu_vm.sh: the commands that reach gcloud, in order, also when a slice is preempted."""

import subprocess
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SLICE = {"CONFIG": "nn1", "WORKDIR": "gs://bucket/nn1", "ZONE": "us-west4-a", "ACCELERATOR": "v5litepod-16"}
TPUS = ["gcloud", "compute", "tpus"]


def run(launchers, *words, **more):
    return launchers.run("tpu_vm.sh", *words, **{**SLICE, **more})


def verbs(launchers):
    """The verbs of the commands that reached gcloud, in order."""
    return [call[4] for call in launchers.calls() if call[:3] == TPUS]


def test_create_queues_a_slice(launchers):
    output = run(launchers, "create", SPOT="1")
    resource = ["queued-resources", "create", "facenet-nn1", "--zone=us-west4-a", "--node-id=facenet-nn1"]
    kind = ["--accelerator-type=v5litepod-16", "--runtime-version=v2-alpha-tpuv5-lite", "--spot"]
    assert launchers.calls() == [[*TPUS, *resource, *kind]]
    assert "billed by the hour" in output
    assert "until it is deleted" in output


@pytest.mark.parametrize(
    ("accelerator", "version"),
    [("v4-32", "tpu-ubuntu2204-base"), ("v5p-64", "v2-alpha-tpuv5"), ("v6e-8", "v2-alpha-tpuv6e")],
)
def test_the_software_of_each_generation(launchers, accelerator, version):
    run(launchers, "create", ACCELERATOR=accelerator)
    assert f"--runtime-version={version}" in launchers.calls()[0]


def test_the_dry_run_prints_the_commands_and_runs_none(launchers, commands):
    given = {"ARGS": "--config.data.path='my photos'"}
    dry = commands(run(launchers, "--dry-run", "up", **given))
    assert launchers.calls() == []
    assert not (launchers.root / "build").exists()
    launchers.answer("describe", "ACTIVE")
    run(launchers, "up", **given)
    assert launchers.calls() == [command for command in dry if command[0] == "gcloud"]
    assert verbs(launchers) == ["create", "describe", "ssh", "scp", "ssh", "ssh", "scp", "ssh"]


def test_a_dataset_in_a_bucket_is_mounted_in_setup_and_trained_on(launchers, commands):
    data = {"DATA": "gs://my-bucket/faces/2026", "ARGS": "--config.steps=5"}
    dry = commands(run(launchers, "--dry-run", "up", **data))
    launchers.answer("describe", "ACTIVE")
    run(launchers, "up", **data)
    assert launchers.calls() == [command for command in dry if command[0] == "gcloud"]
    assert verbs(launchers) == ["create", "describe", "ssh", "scp", "ssh", "ssh", "ssh", "scp", "ssh"]
    mounted = "facenet-jax/code/launch/mount_bucket.sh my-bucket /mnt/facenet-data faces/2026"
    assert [call[-1] for call in launchers.calls() if "mount_bucket" in call[-1]] == [f"--command={mounted}"]
    script = (launchers.root / "build/launch/facenet-nn1/train.sh").read_text()
    assert "--config.data.path=/mnt/facenet-data --config.steps=5" in script
    assert "DATA=faces: give gs://BUCKET/FOLDER" in run(launchers, "setup", DATA="faces", code=2)


@pytest.fixture
def worker(tmp_path):
    """Runs launch/mount_bucket.sh with recorders for commands that change a machine, and a file as /etc/fstab."""
    programs, calls, fstab = tmp_path / "worker", tmp_path / "calls", tmp_path / "fstab"
    programs.mkdir()
    for name in ("sudo", "curl", "lsb_release"):
        (programs / name).write_text(
            "#!/bin/bash\n"
            f'echo {name} "$@" >> {calls}\n'
            f'if [[ $* == *fstab* && $1 == sed ]]; then sed -i "$3" {fstab}; fi\n'
            f'if [[ $* == "tee -a /etc/fstab" ]]; then cat >> {fstab}; elif [[ $1 == tee ]]; then cat > /dev/null; fi\n'
            "[[ $0 != */lsb_release ]] || echo jammy\n"
        )
        (programs / name).chmod(0o755)

    def mount(*words, installed=False):
        calls.write_text("")
        if installed:
            (programs / "gcsfuse").symlink_to("/bin/true")
        command = [ROOT / "launch/mount_bucket.sh", *words]
        subprocess.run(command, env={"PATH": f"{programs}:/usr/bin:/bin"}, check=True)
        return calls.read_text().splitlines(), fstab.read_text().splitlines()

    fstab.write_text("/dev/sda1 / ext4 defaults 0 1\n")
    return mount


def test_a_worker_mounts_the_bucket_read_only_now_and_when_it_starts(worker, tmp_path):
    where = tmp_path / "data"
    where.mkdir()
    calls, fstab = worker("my-bucket", str(where), "faces/2026")
    assert "sudo apt-get install -qq -y gcsfuse" in calls
    assert calls[-1] == f"sudo mount {where}"
    options = "ro,_netdev,allow_other,implicit_dirs,only_dir=faces/2026"
    assert fstab == ["/dev/sda1 / ext4 defaults 0 1", f"my-bucket {where} gcsfuse {options} 0 0"]
    # Another dataset takes the place of the first, and nothing is installed again.
    calls, fstab = worker("another", str(where), installed=True)
    assert not [call for call in calls if "apt-get" in call or "curl" in call]
    options = "ro,_netdev,allow_other,implicit_dirs"
    assert fstab == ["/dev/sda1 / ext4 defaults 0 1", f"another {where} gcsfuse {options} 0 0"]
    assert calls.index(f"sudo umount {where}") < calls.index(f"sudo mount {where}")


def test_the_code_of_a_commit_is_shipped_and_nothing_else(launchers):
    (launchers.root / "launch" / "not committed").write_text("")
    run(launchers, "ship")
    archive = launchers.root / "build/launch/facenet-nn1/facenet-jax.tar.gz"
    with tarfile.open(archive) as shipped:
        names = shipped.getnames()
    assert "launch/facenet-train@.service" in names
    assert "launch/not committed" not in names
    scp, ssh = launchers.calls()
    assert scp[4:] == [
        "scp",
        str(archive.relative_to(launchers.root)),
        "facenet-nn1:",
        "--zone=us-west4-a",
        "--worker=all",
    ]
    assert "--worker=all" in ssh


def test_the_workers_script_unpacks_into_a_folder_of_its_own(launchers, tmp_path):
    run(launchers, "ship")
    home = tmp_path / "home"
    (home / "facenet-jax" / "code" / "stale").mkdir(parents=True)
    (home / "facenet-jax" / ".venv").mkdir()
    (launchers.root / "build/launch/facenet-nn1/facenet-jax.tar.gz").rename(home / "facenet-jax.tar.gz")
    command = launchers.calls()[1][-1].removeprefix("--command=")
    subprocess.run(["bash", "-c", command], cwd=home, check=True)
    assert not (home / "facenet-jax" / "code" / "stale").exists()
    assert (home / "facenet-jax" / "code" / "launch" / "tpu_vm.sh").exists()
    assert (home / "facenet-jax" / ".venv").exists()


def test_words_with_spaces_and_quotes_reach_the_program(launchers, make_recorder, tmp_path):
    run(launchers, "start", ARGS="""--config.data.path='my photos' "--config.note=it's $HOME" --config.steps=5""")
    home = tmp_path / "home"
    program = home / "facenet-jax" / ".venv" / "bin" / "facenet-jax"
    make_recorder(program)
    (home / "facenet-jax" / "code").mkdir()
    script = launchers.root / "build/launch/facenet-nn1/train.sh"
    subprocess.run(["bash", script], env={"HOME": str(home), "PATH": "/usr/bin:/bin"}, check=True)
    words = (program.parent / "facenet-jax.words").read_text().splitlines()
    assert words[:4] == ["train", "--distributed", "--config=nn1", "--workdir=gs://bucket/nn1"]
    assert words[4:] == ["--config.data.path=my photos", "--config.note=it's $HOME", "--config.steps=5"]


def test_the_unit_starts_again_on_143_and_not_on_bad_input(launchers):
    lines = (launchers.root / "launch/facenet-train@.service").read_text().splitlines()
    for line in ("Restart=on-failure", "RestartPreventExitStatus=2", "KillMode=mixed", "WantedBy=multi-user.target"):
        assert line in lines
    # After a stop it is inactive, which `keep` distinguishes from failed; after 143 it is restarted nevertheless.
    assert {"SuccessExitStatus=143", "RestartForceExitStatus=143"} <= set(lines)
    run(launchers, "start")
    assert "systemctl enable facenet-train@$USER" in launchers.calls()[-1][-1]


def test_wait_asks_until_the_slice_is_active_and_accepts_connections(launchers):
    launchers.answer("describe", "WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE")
    launchers.answer("--command=true", ("refused", 255), "")
    run(launchers, "wait")
    assert verbs(launchers) == ["describe"] * 3 + ["ssh"] * 2
    assert launchers.calls().count(["sleep", "30"]) == 3


@pytest.mark.parametrize("state", ["FAILED", "SUSPENDED"])
def test_wait_gives_up_on_a_slice_that_will_not_come(launchers, state):
    launchers.answer("describe", "PROVISIONING", state)
    assert f"is {state} and will not come" in run(launchers, "wait", code=2)


def test_wait_ends_with_gclouds_own_error(launchers):
    launchers.answer("describe", ("", 1))
    run(launchers, "wait", code=1)
    assert verbs(launchers) == ["describe"]


LOADED = "LoadState=loaded\nActiveState="


def test_keep_asks_for_a_preempted_slice_again_until_the_run_has_ended(launchers):
    launchers.answer("describe", "ACTIVE", "SUSPENDED", "WAITING_FOR_RESOURCES", "ACTIVE", "ACTIVE", "ACTIVE")
    launchers.answer("systemctl show", LOADED + "active", LOADED + "activating", LOADED + "inactive")
    output = run(launchers, "keep", typed="y\n")
    asked = [verb for verb in verbs(launchers) if verb in ("delete", "create", "describe")]
    assert asked == ["describe", "describe", "delete", "create", *["describe"] * 4]
    deletion = next(call for call in launchers.calls() if "delete" in call)
    assert deletion[5:] == ["facenet-nn1", "--zone=us-west4-a", "--force", "--quiet"]
    assert "has ended" in output
    assert "billed by the hour" in output.splitlines()[-1]


def test_keep_tries_again_when_a_slice_cannot_be_created_or_filled(launchers):
    launchers.answer("describe", "SUSPENDED", ("", 1), "ACTIVE", "ACTIVE", "ACTIVE")
    launchers.answer(" create ", ("no room", 1), "")
    launchers.answer(" scp ", ("lost", 1))
    launchers.answer("systemctl show", "LoadState=not-found\nActiveState=inactive", LOADED + "inactive")
    run(launchers, "--yes", "keep")
    assert verbs(launchers).count("create") == 2
    assert verbs(launchers).count("scp") == 1 + 2  # lost once, then both files


def test_keep_leaves_a_failed_run_to_a_person(launchers):
    launchers.answer("describe", "ACTIVE")
    launchers.answer("systemctl show", LOADED + "failed")
    assert "the run failed" in run(launchers, "--yes", "keep", code=2)


def test_keep_and_delete_ask_first(launchers):
    for command in ("keep", "delete"):
        for typed in ("", "n\n"):
            run(launchers, command, typed=typed, code=1)
            assert launchers.calls() == []
    run(launchers, "delete", typed="yes\n")
    assert verbs(launchers) == ["delete"]
    run(launchers, "--yes", "delete")
    assert verbs(launchers) == ["delete"]


def test_collect(launchers):
    run(launchers, "collect")
    assert launchers.calls() == [["gcloud", "storage", "rsync", "--recursive", "gs://bucket/nn1", "runs/facenet-nn1"]]
    run(launchers, "collect", WORKDIR="/mnt/nn1")
    assert launchers.calls()[0][4:7] == ["scp", "--recurse", "facenet-nn1:/mnt/nn1/*"]


@pytest.mark.parametrize("command", ["create", "start", "status", "stop", "collect"])
def test_commands_that_leave_the_slice_running_print_that_it_is_billed(launchers, command):
    assert "billed by the hour" in run(launchers, command)


def test_follow_and_stop(launchers):
    run(launchers, "follow")
    assert "--worker=0" in launchers.calls()[0]
    assert "journalctl --unit=facenet-train@$USER" in launchers.calls()[0][-1]
    run(launchers, "stop")
    assert launchers.calls()[0][-2:] == ["--worker=all", "--command=sudo systemctl disable --now facenet-train@$USER"]


def test_bad_input_is_one_sentence(launchers):
    def refused(*words, **environment):
        error = run(launchers, *words, code=2, **environment)
        assert launchers.calls() == []
        return error

    assert "give ZONE" in refused("create", ZONE="")
    assert "give ACCELERATOR" in refused("create", ACCELERATOR="")
    assert "give RUNTIME" in refused("create", ACCELERATOR="h100-8")
    assert "a folder of one machine" in refused("up", WORKDIR="runs/nn1")
    assert "a quote is not closed" in refused("start", ARGS="'")
    assert "there is no such commit" in refused("ship", COMMIT="nowhere")
    assert "NAME=My slice" in refused("create", NAME="My slice")
    assert "not a command" in refused("sart")
    assert "one command at a time" in refused("ship", "start")
