#!/usr/bin/env bash
# Trains on TPU slices of a Kubernetes cluster on Google Cloud, as a JobSet.
# shellcheck source=launch/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit

usage() {
    cat << 'END'
usage: CONFIG=nn1 WORKDIR=gs://BUCKET/nn1 DATA=gs://BUCKET/faces ARGS="--config.steps=100000" \
           IMAGE=REGION-docker.pkg.dev/PROJECT/REPO/facenet-jax ACCELERATOR=tpu-v5-lite-podslice TOPOLOGY=4x4 \
           launch/gke/launch.sh [--dry-run] [--yes] COMMAND

  image     builds IMAGE from the code of COMMIT (HEAD) and pushes it
  manifest  prints the JobSet
  submit    applies it
  status    the JobSet and its pods
  follow    shows the first host's log as it grows
  collect   copies WORKDIR to runs/NAME
  delete    deletes the JobSet; asks first

DATA is a prepared dataset in a bucket, mounted read-only; without it, faces are where ARGS says. NAME (facenet-CONFIG)
is the JobSet's. SLICES (1) is the number of slices of TOPOLOGY, each a node pool, CHIPS (4) that of chips on a node.
RESTARTS (10) bounds how often it is started again after failures; preemptions are not counted. QUEUE (multislice-queue,
as XPK names it) is Kueue's, where there is one. SERVICE_ACCOUNT (default) is the pods', and needs the buckets. The
cluster is the one kubectl talks to.
END
}

cost() {
    say "The cluster's TPU nodes are billed by the hour as long as they are there, with or without a JobSet: delete" \
        "their node pool or the cluster when you are done; look at https://cloud.google.com/tpu/pricing for the price."
}

need_image() {
    [[ ${IMAGE:-} ]] || refuse "give IMAGE, the container's address: REGION-docker.pkg.dev/PROJECT/REPO/facenet-jax"
}

image() {
    need_image
    archive_commit
    run_from "$stage/facenet-jax.tar.gz" \
        docker build --platform=linux/amd64 --file=launch/gke/Dockerfile "--tag=$IMAGE" -
    run docker push "$IMAGE"
}

# Words as single-quoted YAML; Kubernetes would expand $(NAME), and takes $$( for the plain characters.
yaml_words() {
    local word words=()
    for word in "$@"; do
        word=${word//\$(/\$\$(}
        words+=("'${word//\'/\'\'}'")
    done
    printf -v words '%s, ' "${words[@]}"
    printf '%s' "${words%, }"
}

fill() {
    [[ $2 =~ ^[A-Za-z0-9._/:@-]+$ ]] || refuse "$1=$2: letters, digits and . _ / : @ - only."
    manifest=${manifest//"@$1@"/"$2"}
}

# Lines of the template that end with @IF_NAME@ stay where NAME has a value.
only_with() {
    local edit="/ *@IF_$1@\$/d"
    [[ -z $2 ]] || edit="s/ *@IF_$1@\$//"
    manifest=$(sed "$edit" <<< "$manifest")
}

make_manifest() {
    local chips=${CHIPS:-4} total nodes
    need_image
    need_shared_workdir
    [[ ${ACCELERATOR:-} ]] || refuse "give ACCELERATOR, the nodes' label gke-tpu-accelerator: tpu-v5-lite-podslice"
    [[ ${TOPOLOGY:-} =~ ^[1-9][0-9]*(x[1-9][0-9]*){1,2}$ ]] ||
        refuse "give TOPOLOGY, the slice's shape in chips: TOPOLOGY=4x4"
    [[ $chips =~ ^[1-9][0-9]*$ ]] || refuse "CHIPS=$chips: give the number of chips on each node."
    [[ ${SLICES:=1} =~ ^[1-9][0-9]*$ ]] || refuse "SLICES=$SLICES: give the number of slices."
    [[ ${RESTARTS:=10} =~ ^[0-9]+$ ]] || refuse "RESTARTS=$RESTARTS: give a number."
    total=$((${TOPOLOGY//x/*}))
    nodes=$((total / chips))
    ((nodes * chips == total)) ||
        refuse "TOPOLOGY=$TOPOLOGY is $total chips, which nodes of $chips do not make up; give CHIPS, as a node has."
    ((SLICES == 1 || nodes > 1)) || refuse "SLICES=$SLICES: GKE joins slices of several nodes only, and TOPOLOGY=$TOPOLOGY" \
        "with CHIPS=$chips is one node."
    make_train_command
    manifest=$(< launch/gke/jobset.yaml)
    only_with DATA "$data_bucket"
    fill NAME "$NAME"
    fill QUEUE "${QUEUE:-multislice-queue}"
    fill RESTARTS "$RESTARTS"
    fill SLICES "$SLICES"
    fill NODES "$nodes"
    fill SERVICE_ACCOUNT "${SERVICE_ACCOUNT:-default}"
    fill ACCELERATOR "$ACCELERATOR"
    fill TOPOLOGY "$TOPOLOGY"
    fill IMAGE "$IMAGE"
    fill CHIPS "$chips"
    if [[ $data_bucket ]]; then
        fill DATA_MOUNT "$data_mount"
        fill DATA_BUCKET "$data_bucket"
        manifest=${manifest//@DATA_OPTIONS@/"implicit-dirs${data_folder:+,only-dir=$data_folder}"}
    fi
    # Last, so that nothing in a person's own words is taken for one of the above.
    manifest=${manifest//@COMMAND@/"$(yaml_words "${train[@]}")"}
}

take_options "$@"
((${#given[@]} == 1)) || refuse "one command at a time; see ${0##*/} --help."
take_name
take_data
pods=jobset.sigs.k8s.io/jobset-name=$NAME
case ${given[0]} in
    image) image ;;
    manifest)
        make_manifest
        say "$manifest"
        ;;
    submit)
        make_manifest
        write_file "$stage/jobset.yaml" <<< "$manifest"
        run kubectl apply "--filename=$stage/jobset.yaml"
        cost
        ;;
    status)
        run kubectl get jobset "$NAME"
        run kubectl get pods "--selector=$pods" --output=wide
        cost
        ;;
    follow)
        run kubectl logs --follow --tail=100 --container=train \
            "--selector=$pods,batch.kubernetes.io/job-completion-index=0"
        ;;
    collect)
        [[ $WORKDIR == gs://?* ]] || refuse "WORKDIR=$WORKDIR is on the cluster's disks; only gs:// can be collected."
        run mkdir -p "runs/$NAME"
        run gcloud storage rsync --recursive "$WORKDIR" "runs/$NAME"
        ;;
    delete)
        confirm "Delete the JobSet $NAME? Its hosts save first, if they can; what is in $WORKDIR stays."
        run kubectl delete jobset "$NAME"
        cost
        ;;
    *) refuse "${given[0]}: not a command; see ${0##*/} --help." ;;
esac
