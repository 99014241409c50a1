#!/usr/bin/env bash
# Trains on a slice of Cloud TPU VMs: requests it, installs the code, watches the run and deletes the slice.
# shellcheck disable=SC2016  # the workers are to expand what stands in single quotes: $USER is theirs
# shellcheck source=launch/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

usage() {
    cat << 'END'
usage: CONFIG=nn1 WORKDIR=gs://BUCKET/nn1 DATA=gs://BUCKET/faces ARGS="--config.steps=100000" \
           ZONE=us-west4-a ACCELERATOR=v5litepod-16 launch/tpu_vm.sh [--dry-run] [--yes] COMMAND

  up        create, wait, ship, setup and start
  create    asks for the slice, as a queued resource: it comes when there is room
  wait      until it is there
  ship      brings the code of COMMIT (HEAD) to every worker
  setup     installs it there, EXTRAS (tpu,gcs) as in the Makefile; mounts DATA if it is given, read-only
  start     starts or resumes training on every worker
  fill      ship, setup and start
  keep      watches until the run has ended; after a preemption, deletes what is left and does up again; asks first
  follow    shows the first worker's log as it grows
  status    the slice, and the run on every worker
  stop      saves and stops; the slice stays
  collect   copies WORKDIR to runs/NAME
  delete    deletes the slice; asks first

DATA is a prepared dataset in a bucket; without it, faces are where ARGS says. NAME (facenet-CONFIG) is the slice's.
SPOT=1 asks for one that may be preempted. RUNTIME is the VM's software, chosen by ACCELERATOR if not given. The project
is gcloud's own (CLOUDSDK_CORE_PROJECT, or gcloud config set project).
END
}

cost() {
    say "$NAME is billed by the hour from the moment it is there, training or idle, until it is deleted" \
        "(launch/tpu_vm.sh delete); look at https://cloud.google.com/tpu/pricing for the price."
}

slice() { run gcloud compute tpus queued-resources "$1" "$NAME" "--zone=$ZONE" "${@:2}"; }
on_workers() { run gcloud compute tpus tpu-vm ssh "$NAME" "--zone=$ZONE" "--worker=$1" "--command=$2"; }
to_workers() { run gcloud compute tpus tpu-vm scp "$1" "$NAME:$2" "--zone=$ZONE" --worker=all; }

# The slice's state: WAITING_FOR_RESOURCES, PROVISIONING, ACTIVE, SUSPENDED (preempted), FAILED, ...
state() { ask gcloud compute tpus queued-resources describe "$NAME" "--zone=$ZONE" "--format=value(state.state)"; }

# The run's state, on the first worker.
run_state() {
    ask gcloud compute tpus tpu-vm ssh "$NAME" "--zone=$ZONE" --worker=0 \
        '--command=systemctl show facenet-train@$USER --property=LoadState,ActiveState'
}

# https://cloud.google.com/tpu/docs/runtimes
runtime() {
    case $ACCELERATOR in
        v6e-*) echo v2-alpha-tpuv6e ;;
        v5p-*) echo v2-alpha-tpuv5 ;;
        v5litepod-*) echo v2-alpha-tpuv5-lite ;;
        v[234]-*) echo tpu-ubuntu2204-base ;;
        *) refuse "ACCELERATOR=$ACCELERATOR: not known here; give RUNTIME, the software version that it needs, too." ;;
    esac
}

create() {
    local version spot=()
    [[ ${ACCELERATOR:-} ]] || refuse "give ACCELERATOR, the slice's type and size: ACCELERATOR=v5litepod-16"
    version=${RUNTIME:-$(runtime)}
    [[ -z ${SPOT:-} ]] || spot=(--spot)
    slice create "--node-id=$NAME" "--accelerator-type=$ACCELERATOR" "--runtime-version=$version" "${spot[@]}"
    cost
}

wait_until_active() {
    local now=''
    if ((dry_run)); then
        state
        say "(every 30 seconds, until it says ACTIVE)"
    fi
    while ((!dry_run)) && [[ $now != ACTIVE ]]; do
        now=$(state)
        say "$NAME: $now"
        [[ $now != SUSPENDED && $now != FAILED ]] || refuse "$NAME is $now and will not come; delete it, and ask again."
        [[ $now == ACTIVE ]] || sleep 30
    done
    # A machine exists some time before it accepts connections.
    for _ in {1..10}; do
        on_workers all true && return
        sleep 30
    done
    refuse "$NAME exists but refuses connections; try gcloud compute tpus tpu-vm ssh $NAME --zone=$ZONE yourself."
}

ship() {
    archive_commit
    to_workers "$stage/facenet-jax.tar.gz" ""
    on_workers all "rm -rf facenet-jax/code && mkdir -p facenet-jax/code &&\
 tar -xzf facenet-jax.tar.gz -C facenet-jax/code"
}

# uv brings a Python of its own: the VM's is older than 3.11. Ubuntu 24.04 lets pip install only when it is told to.
setup() {
    on_workers all "cd facenet-jax/code && PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --user --quiet uv &&\
 python3 -m uv venv --quiet --allow-existing --python=3.11 ../.venv &&\
 python3 -m uv pip install --quiet --python=../.venv/bin/python --reinstall-package=facenet-jax\
 --constraint=constraints.txt \".[${EXTRAS:-tpu,gcs}]\""
    [[ -z $data_bucket ]] ||
        on_workers all "facenet-jax/code/launch/mount_bucket.sh $data_bucket $data_mount${data_folder:+ $data_folder}"
}

start() {
    local unit='facenet-train@$USER'
    need_shared_workdir
    make_train_command
    train[0]=../.venv/bin/facenet-jax
    # The words of ARGS travel in a file, past two shells and ssh.
    write_file "$stage/train.sh" << END
cd ~/facenet-jax/code || exit
exec $(quoted "${train[@]}")
END
    to_workers "$stage/train.sh" facenet-jax/train.sh
    on_workers all "sudo cp facenet-jax/code/launch/facenet-train@.service /etc/systemd/system/ &&\
 sudo systemctl daemon-reload && sudo systemctl enable $unit && sudo systemctl restart $unit"
    cost
}

fill() {
    ship
    setup
    start
}

up() {
    need_shared_workdir
    create
    wait_until_active
    fill
}

delete_now() { slice delete --force --quiet; }

# In a process of its own, which may fail: a slice can be taken away while it is being filled.
try() { launch/tpu_vm.sh "$1" || say "that failed; again in a minute"; }

keep() {
    need_shared_workdir
    confirm "Whenever $NAME was preempted: delete what is left of it, and ask for it again?"
    if ((dry_run)); then
        state
        say "(every minute; while it says ACTIVE)"
        run_state
        say "(when it says SUSPENDED or FAILED)"
        delete_now
        up
        return
    fi
    local gone=0
    while true; do
        case $(state || echo unknown) in
            ACTIVE)
                case $(run_state || echo unknown) in
                    *=not-found*) try fill ;;
                    *ActiveState=inactive*) break ;;
                    *ActiveState=failed*)
                        cost
                        refuse "the run failed, and was not started again; see launch/tpu_vm.sh follow."
                        ;;
                esac
                ;;
            SUSPENDED | FAILED)
                delete_now && gone=1 && try up
                ;;
            # Not there, if asking for it again was refused; else Google's answer did not reach us.
            *unknown) ((!gone)) || try up ;;
        esac
        sleep 60
    done
    say "the run has ended, or was stopped."
    cost
}

collect() {
    need_shared_workdir
    run mkdir -p "runs/$NAME"
    if [[ $WORKDIR == gs://* ]]; then
        run gcloud storage rsync --recursive "$WORKDIR" "runs/$NAME"
    else
        run gcloud compute tpus tpu-vm scp --recurse "$NAME:$WORKDIR/*" "runs/$NAME" "--zone=$ZONE" --worker=0
    fi
    cost
}

take_options "$@"
((${#given[@]} == 1)) || refuse "one command at a time; see ${0##*/} --help."
take_name
take_data
[[ ${ZONE:-} ]] || refuse "give ZONE, where the slice is or will be: ZONE=us-west4-a"
case ${given[0]} in
    up | create | ship | setup | start | fill | keep | collect) "${given[0]}" ;;
    wait) wait_until_active ;;
    follow) on_workers 0 'sudo journalctl --unit=facenet-train@$USER --output=cat --lines=100 --follow' ;;
    status)
        state
        on_workers all 'systemctl is-active facenet-train@$USER || true'
        cost
        ;;
    stop)
        on_workers all 'sudo systemctl disable --now facenet-train@$USER'
        cost
        ;;
    delete)
        confirm "Delete $NAME, with all that is on its disks? What is in $WORKDIR stays if that is not on them."
        delete_now
        ;;
    *) refuse "${given[0]}: not a command; see ${0##*/} --help." ;;
esac
