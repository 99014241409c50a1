#!/usr/bin/env bash
# On a TPU VM: mounts a folder of a bucket by Cloud Storage FUSE, read-only, now and whenever the machine starts.
# launch/tpu_vm.sh setup runs it where DATA is given: mount_bucket.sh BUCKET WHERE [FOLDER]
set -euo pipefail
bucket=$1 where=$2 folder=${3:-}

# https://cloud.google.com/storage/docs/cloud-storage-fuse/install
if ! command -v gcsfuse > /dev/null; then
    key=/usr/share/keyrings/cloud.google.asc
    curl -fsS https://packages.cloud.google.com/apt/doc/apt-key.gpg | sudo tee "$key" > /dev/null
    echo "deb [signed-by=$key] https://packages.cloud.google.com/apt gcsfuse-$(lsb_release -cs) main" |
        sudo tee /etc/apt/sources.list.d/gcsfuse.list > /dev/null
    sudo apt-get update -qq
    sudo apt-get install -qq -y gcsfuse
fi
sudo mkdir -p "$where"
sudo umount "$where" 2> /dev/null || true
# Folders are told from the objects' names (implicit_dirs): a dataset that was copied there has no objects for them.
options=ro,_netdev,allow_other,implicit_dirs${folder:+,only_dir=$folder}
sudo sed -i "\\| $where gcsfuse |d" /etc/fstab
echo "$bucket $where gcsfuse $options 0 0" | sudo tee -a /etc/fstab > /dev/null
sudo mount "$where"
ls "$where" > /dev/null
