#!/usr/bin/env bash
# Trains on a Slurm cluster: one process for each GPU, or one for each node without GPUs.
# shellcheck source=launch/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

usage() {
    cat << 'END'
usage: CONFIG=nn1 WORKDIR=runs/nn1 ARGS="--config.data.path='my photos'" launch/slurm.sh [--dry-run] [--yes] COMMAND

  submit [OPTION...]  sends the job; the options go to sbatch: --partition=gpu --time=12:00:00 --cpus-per-task=8
  follow JOB          shows the log as it grows
  cancel JOB          ends the job; asks first

NODES (1) and GPUS, how many on each node (0: train on the processors), say how large it is. .venv (or VENV) has to be
on a disk that the nodes share, and so has WORKDIR.
END
}

submit() {
    local tasks=1 gpus=()
    [[ ${NODES:=1} =~ ^[1-9][0-9]*$ ]] || refuse "NODES=$NODES: give a number of nodes."
    [[ ${GPUS:=0} =~ ^[0-9]+$ ]] || refuse "GPUS=$GPUS: give the number of GPUs on each node."
    if ((GPUS)); then
        tasks=$GPUS
        # Not --gpus-per-task: JAX gives a task the GPU of its own number among all that it sees.
        gpus=("--gpus-per-node=$GPUS")
    fi
    make_train_command
    train[0]=${VENV:-.venv}/bin/facenet-jax
    run sbatch "--job-name=facenet-$config_name" "--nodes=$NODES" "--ntasks-per-node=$tasks" "${gpus[@]}" "$@" \
        launch/slurm.sbatch "${train[@]}"
    if ((dry_run)); then
        say "The job then runs, the last command if the first ended with 143 and the second says RUNNING:"
        bash launch/slurm.sbatch --dry-run "${train[@]}"
        say "(If it failed for another reason than bad input, and a node does not answer, it is requeued as well.)"
    fi
    say "While it runs, its nodes count against your account's hours; nothing is left running when it has ended."
}

job_given() {
    [[ ${1:-} =~ ^[0-9]+$ ]] || refuse "give the number of the job, as sbatch printed it: ${0##*/} ${given[0]} 1234"
}

take_options "$@"
set -- "${given[@]:1}"
case ${given[0]} in
    submit) submit "$@" ;;
    follow)
        job_given "$@"
        run tail -n 100 -F "slurm-$1.log"
        ;;
    cancel)
        job_given "$@"
        confirm "End job $1? What it has saved stays in its WORKDIR."
        run scancel "$1"
        ;;
    *) refuse "${given[0]}: not a command; see ${0##*/} --help." ;;
esac
