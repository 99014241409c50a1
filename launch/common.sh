# shellcheck shell=bash disable=SC2034
# (the variables are for the scripts that read this file)
# Shared by the launchers: CONFIG, WORKDIR and ARGS as in the Makefile, DATA in a bucket, --dry-run, and a question
# before deleting.

set -euo pipefail
if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 404)); then
    echo "${0##*/} needs bash 4.4 or later; this is $BASH_VERSION (on macOS: brew install bash)" >&2
    exit 2
fi

CONFIG=${CONFIG:-quickstart}
config_name=$(basename "$CONFIG" .py)
WORKDIR=${WORKDIR:-runs/$config_name}
ARGS=${ARGS:-}
dry_run=0
yes=0

say() { printf '%s\n' "$*"; }

# Bad input is one sentence and code 2, as everywhere in the project.
refuse() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 2
}

# Takes --dry-run and --yes from the front of the command line; `given` is what follows.
take_options() {
    while (($#)); do
        case $1 in
            --dry-run) dry_run=1 ;;
            --yes) yes=1 ;;
            -h | --help) usage && exit 0 ;;
            -*) refuse "$1: not understood; see ${0##*/} --help." ;;
            *) break ;;
        esac
        shift
    done
    given=("$@")
    (($#)) || { usage >&2 && exit 2; }
}

# The command as a person would type it: a word is quoted where it has to be.
quoted() {
    local word words=()
    for word in "$@"; do
        if [[ $word =~ ^[A-Za-z0-9_@%+=:,./-]+$ ]]; then words+=("$word"); else words+=("${word@Q}"); fi
    done
    printf '%s' "${words[*]}"
}

# Prints a command and, unless this is a dry run, runs it.
run() {
    say "+ $(quoted "$@")"
    ((dry_run)) || "$@"
}

# Queries a service; the script uses the answer, so only a dry run prints the command.
ask() {
    if ((dry_run)); then say "+ $(quoted "$@")"; else "$@"; fi
}

# Like run, with a file as standard input.
run_from() {
    say "+ $(quoted "${@:2}") < $(quoted "$1")"
    ((dry_run)) || "${@:2}" < "$1"
}

# Prints a file and, unless this is a dry run, writes it: write_file FILE < content
write_file() {
    local content
    content=$(cat)
    say "+ cat > $(quoted "$1") << 'END'"
    say "$content"
    say END
    ((dry_run)) || { mkdir -p "$(dirname "$1")" && printf '%s\n' "$content" > "$1"; }
}

# Continues only if a person answers yes; without a terminal and without --yes the answer is no.
confirm() {
    if ((dry_run)); then
        say "(asks: $1)"
    elif ((!yes)); then
        local answer=
        printf '%s [y/N] ' "$1" >&2
        read -r answer || true
        [[ $answer == [yY]* ]] || { say "left as it is." && exit 1; }
    fi
}

# `train` is the command on every host. ARGS is split into words as a shell does, respecting quotes, and not expanded.
make_train_command() {
    local words=()
    xargs printf '' <<< "$ARGS" 2> /dev/null || refuse "ARGS=$ARGS: a quote is not closed."
    mapfile -d '' -t words < <(xargs -r printf '%s\0' <<< "$ARGS")
    train=(facenet-jax train --distributed "--config=$CONFIG" "--workdir=$WORKDIR")
    [[ -z ${data_bucket:-} ]] || train+=("--config.data.path=$data_mount")
    train+=("${words[@]}")
}

# DATA=gs://BUCKET/FOLDER, a prepared dataset: mounted on every host, where --config.data.path then looks.
take_data() {
    data_bucket='' data_folder='' data_mount=/mnt/facenet-data
    [[ ${DATA:-} ]] || return 0
    [[ $DATA =~ ^gs://([a-z0-9][a-z0-9._-]*)/?([A-Za-z0-9._/=+-]*)$ ]] ||
        refuse "DATA=$DATA: give gs://BUCKET/FOLDER, of letters, digits and . _ / = + - only; faces on the hosts' own" \
            'disks are given by ARGS="--config.data.path=...".'
    data_bucket=${BASH_REMATCH[1]} data_folder=${BASH_REMATCH[2]%/}
}

# For machines that share no disk with this one.
need_shared_workdir() {
    [[ $WORKDIR == gs://?* || $WORKDIR == /?* ]] || refuse "WORKDIR=$WORKDIR is a folder of one machine, and all" \
        "hosts must see the same: give WORKDIR=gs://BUCKET/$config_name, or the absolute path of a disk they all mount."
}

# Names of slices and of JobSets: letters, digits and hyphens.
take_name() {
    NAME=${NAME:-facenet-${config_name//[^a-z0-9]/-}}
    [[ $NAME =~ ^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$ ]] ||
        refuse "NAME=$NAME: give at most 40 small letters, digits and hyphens, a letter first."
    stage=build/launch/$NAME
}

# The files of a commit, not of the working tree, so that the code of a run has a name and can be fetched again.
archive_commit() {
    local commit=${COMMIT:-HEAD}
    git rev-parse --quiet --verify "$commit^{commit}" > /dev/null || refuse "COMMIT=$commit: there is no such commit."
    printf 'commit %s\n' "$(git log -1 --format='%h %s' "$commit")" >&2
    [[ -z $(git status --porcelain) ]] || printf 'changes that are not committed are left out\n' >&2
    run mkdir -p "$stage"
    run git archive --format=tar.gz "--output=$stage/facenet-jax.tar.gz" "$commit"
}
