#!/usr/bin/env bash
# Opt-in: a Debian arm64 system under qemu-user as an SSH device, to run ARM kernels without ARM hardware (their times
# mean nothing). Usage, as root on a Debian or Ubuntu machine:
#   hardware_runners/emulate_arm64.sh [FOLDER] [PUBLIC_KEY]     (default: /var/lib/edge-vision-arm64, ~/.ssh/id_ed25519.pub)
#   hardware_runners/emulate_arm64.sh --stop [FOLDER]           ends the server and unmounts; only then rm -r FOLDER
set -euo pipefail

stop=false
if [[ ${1:-} == --stop ]]; then stop=true; shift; fi
folder=${1:-/var/lib/edge-vision-arm64}
key=${2:-$HOME/.ssh/id_ed25519.pub}
port=${PORT:-2264}
cpu=cortex-a76 # a Raspberry Pi 5's; qemu 7.2 by itself has SME, with which XNNPACK computes nonsense there

[[ $EUID == 0 ]] || { echo "error: run it as root: debootstrap makes a system of its own" >&2; exit 1; }

if $stop; then
    if [[ -f $folder/run/sshd.pid ]]; then
        server=$(cat "$folder/run/sshd.pid")
        kill "$server" && for ((i = 0; i < 50; i++)); do kill -0 "$server" 2> /dev/null || break; sleep 0.1; done
    fi
    for mounted in proc/cpuinfo proc sys dev; do
        if mountpoint -q "$folder/$mounted"; then umount "$folder/$mounted"; fi
    done
    exit 0
fi
[[ -f $key ]] || { echo "error: $key: no public key; name one as the second argument" >&2; exit 1; }

need=()
command -v debootstrap > /dev/null || need+=(debootstrap)
command -v qemu-aarch64-static > /dev/null || need+=(qemu-user-static binfmt-support)
((${#need[@]} == 0)) || apt-get install --yes --no-install-recommends "${need[@]}"

if [[ ! -f /proc/sys/fs/binfmt_misc/qemu-aarch64 ]]; then
    mountpoint -q /proc/sys/fs/binfmt_misc || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
    update-binfmts --enable qemu-aarch64 ||
        { echo "error: this kernel can't register qemu-aarch64 (binfmt_misc)" >&2; exit 1; }
fi

if [[ ! -x $folder/edge-env/bin/python ]]; then
    debootstrap --arch=arm64 --variant=minbase \
        --include=openssh-server,python3,python3-venv,ca-certificates bookworm "$folder" "${MIRROR:-http://deb.debian.org/debian}"
    platforms=() # the wheels come through this machine's pip, its indexes and its proxies
    for glibc in 17 24 26 27 28 31 34 35; do platforms+=(--platform "manylinux_2_${glibc}_aarch64"); done
    "${PYTHON:-python3}" -m pip download --quiet --only-binary :all: --python-version 3.11 "${platforms[@]}" \
        --platform manylinux2014_aarch64 --dest "$folder/wheels" numpy opencv-python-headless ai-edge-litert onnxruntime
    chroot "$folder" python3 -m venv /edge-env
    chroot "$folder" /edge-env/bin/pip --isolated install --quiet --no-index --find-links /wheels \
        numpy opencv-python-headless ai-edge-litert onnxruntime
fi

# XNNPACK asks /sys and /proc/cpuinfo which kernels to take, and leaves the model to TFLite's own (or crashes) where it
# finds none or this machine's: here it finds a Cortex-A76
for ((core = 0; core < $(nproc); core++)); do
    printf 'processor\t: %s\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics %s\n' \
        "$core" "fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
    printf 'CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x4\nCPU part\t: 0xd0b\nCPU revision\t: 1\n\n'
done > "$folder/etc/cpuinfo"
mountpoint -q "$folder/proc" || mount -t proc proc "$folder/proc"
mountpoint -q "$folder/sys" || mount -t sysfs -o ro sysfs "$folder/sys"
mountpoint -q "$folder/proc/cpuinfo" || mount --bind "$folder/etc/cpuinfo" "$folder/proc/cpuinfo"
mountpoint -q "$folder/dev" || mount --bind /dev "$folder/dev"
mkdir -p "$folder/run/sshd" "$folder/root/.ssh"
cp "$key" "$folder/root/.ssh/authorized_keys"
chmod 700 "$folder/root/.ssh"
chmod 600 "$folder/root/.ssh/authorized_keys"
chroot "$folder" ssh-keygen -A > /dev/null
chroot "$folder" /usr/sbin/sshd -p "$port" -o ListenAddress=127.0.0.1 -o UsePAM=no -o PasswordAuthentication=no \
    -o PidFile=/run/sshd.pid -o SetEnv="QEMU_CPU=$cpu"

cat << EOF
The emulated device listens on port $port. Now, as yourself:
  ssh -p $port root@127.0.0.1 true         # once, to accept its host key
  python -m hardware_runners enrol arm64 root@127.0.0.1 --port $port --python /edge-env/bin/python
and add to hardware_runners/inventory/arm64.yaml:
  emulated: true
  limits: {connect_s: 60.0, run_s: 3600.0, heartbeat_s: 30.0}
EOF
