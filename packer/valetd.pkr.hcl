# Images of a valetd host, made with the same scripts that tests/image boots: AMIs for EC2, and a disk for QEMU.
#
#   packer build -var deb=target/debian/valetd_0.1.0-1_amd64.deb -only='ami.*' packer
#
# It is valid for Packer 1.6.6, which Debian has. Newer ones need the plugins that packer/modern/plugins.pkr.hcl names: copy
# that file here first, and `packer init packer`.

packer {
  required_version = ">= 1.6.6"
}

variable "deb" {
  type        = string
  description = "Path of valetd's package for the architecture that is built: `make deb`."

  validation {
    # Packer 1.6 has no regex(), and neither alltrue().
    condition     = regex_replace(var.deb, "^(.*/)?valetd_[0-9][^/]*_(amd64|arm64)[.]deb$", "") == ""
    error_message = "The deb variable must be a package of valetd: .../valetd_VERSION_ARCHITECTURE.deb."
  }
}

variable "browser_deb" {
  type        = string
  default     = ""
  description = "Path of the browser's package. Ubuntu has none that is not a snap."

  validation {
    condition     = regex_replace(var.browser_deb, "^.+[.]deb$", "") == ""
    error_message = "The browser_deb variable must be a .deb, or empty."
  }
}

variable "adspower_deb" {
  type        = string
  default     = ""
  description = "Path of AdsPower's package, where it is wanted."

  validation {
    condition     = regex_replace(var.adspower_deb, "^.+[.]deb$", "") == ""
    error_message = "The adspower_deb variable must be a .deb, or empty."
  }
}

variable "region" {
  type    = string
  default = "eu-central-1"

  validation {
    condition     = regex_replace(var.region, "^[a-z]{2}(-[a-z]+)+-[0-9]$", "") == ""
    error_message = "The region variable must be a region of EC2, like eu-central-1."
  }
}

variable "kms_key_id" {
  type        = string
  default     = ""
  description = "Key that the disk is encrypted with. Empty takes the account's own for EBS, which no other account can use."
}

variable "ami_users" {
  type        = list(string)
  default     = []
  description = "Accounts that may start the AMI."

  validation {
    condition     = length([for account in var.ami_users : account if regex_replace(account, "^[0-9]{12}$", "") != ""]) == 0
    error_message = "The ami_users variable must be accounts of 12 digits."
  }
}

variable "instance_profile" {
  type        = string
  default     = ""
  description = "Instance profile of the building machine. With one that Session Manager accepts, no port is opened for SSH."
}

variable "disk_gib" {
  type    = number
  default = 30

  validation {
    condition     = var.disk_gib >= 16 && var.disk_gib <= 1024
    error_message = "The disk_gib variable must be 16 to 1024."
  }
}

variable "qemu_image" {
  type        = string
  default     = "debian-12-genericcloud-amd64.qcow2"
  description = "Path or address of Debian's cloud image, for the qemu build."
}

variable "qemu_checksum" {
  type        = string
  default     = "none"
  description = "Its checksum, sha512:HEX. The default takes any."
}

variable "qemu_accelerator" {
  type    = string
  default = "kvm"

  validation {
    condition     = contains(["kvm", "tcg", "none"], var.qemu_accelerator)
    error_message = "The qemu_accelerator variable must be kvm, tcg or none."
  }
}

locals {
  # valetd_0.1.0-1_amd64.deb
  parts        = split("_", trimsuffix(basename(var.deb), ".deb"))
  version      = local.parts[1]
  architecture = local.parts[2]
  # Without + and ~, which names of AMIs may not have.
  name = "valetd-${regex_replace(local.version, "[^0-9A-Za-z.-]", "-")}"
  tags = {
    Name         = local.name
    Service      = "valetd"
    Version      = local.version
    Architecture = local.architecture
    SourceImage  = "{{ .SourceAMIName }}"
  }
  # Canonical's images; the rest of the name is the architecture.
  ubuntu = {
    "24.04" = "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04"
    "22.04" = "ubuntu/images/hvm-ssd/ubuntu-jammy-22.04"
  }
  # What ami/provision takes, and the same where the files are on the machine that is built.
  packages = {
    DAEMON_DEB   = var.deb
    BROWSER_DEB  = var.browser_deb
    ADSPOWER_DEB = var.adspower_deb
  }
  given = concat(
    [for name, package in local.packages : "${name}=/tmp/valetd-build/${basename(package)}" if package != ""],
    # The clock of EC2; harmless elsewhere.
    ["TIME_SERVER=169.254.169.123"],
  )
}

source "amazon-ebs" "host" {
  region                      = var.region
  ssh_username                = "ubuntu"
  ssh_interface               = var.instance_profile == "" ? "public_ip" : "session_manager"
  iam_instance_profile        = var.instance_profile
  associate_public_ip_address = true
  temporary_key_pair_type     = "ed25519"
  ssh_clear_authorized_keys   = true
  ami_users                   = var.ami_users
  encrypt_boot                = true
  kms_key_id                  = var.kms_key_id
  ena_support                 = true
  tags                        = local.tags
  snapshot_tags               = local.tags
  run_tags                    = { Name = "packer-valetd", Service = "valetd" }
  run_volume_tags             = { Name = "packer-valetd", Service = "valetd" }

  launch_block_device_mappings {
    device_name           = "/dev/sda1"
    volume_type           = "gp3"
    volume_size           = var.disk_gib
    iops                  = 3000
    throughput            = 125
    delete_on_termination = true
  }
}

source "qemu" "host" {
  iso_url          = var.qemu_image
  iso_checksum     = var.qemu_checksum
  disk_image       = true
  disk_size        = "${var.disk_gib}G"
  format           = "qcow2"
  accelerator      = var.qemu_accelerator
  headless         = true
  cpus             = 2
  memory           = 4096
  net_device       = "virtio-net"
  disk_interface   = "virtio"
  vm_name          = "${local.name}.qcow2"
  output_directory = "target/packer/qemu"
  # Seen by cloud-init as a source of its own, which lets Packer in.
  cd_files     = ["${path.root}/seed/user-data", "${path.root}/seed/meta-data"]
  cd_label     = "cidata"
  ssh_username = "packer"
  ssh_password = "packer"
  ssh_timeout  = "30m"
  boot_wait    = "5s"
  # The user that the seed made is gone by then, and the machine goes by itself.
  shutdown_command = "true"
  shutdown_timeout = "5m"
}

build {
  name = "ami"

  # Which of them depends on the package's architecture. Where the browser's package is for amd64 alone, so are the images.
  dynamic "source" {
    for_each = local.architecture == "amd64" ? local.ubuntu : {}
    labels   = ["amazon-ebs.host"]

    content {
      name          = "ubuntu-${source.key}-amd64"
      instance_type = "t3.large"
      ami_name      = "${local.name}-ubuntu-${source.key}-amd64-{{timestamp}}"

      source_ami_filter {
        filters = {
          name                = "${source.value}-amd64-server-*"
          root-device-type    = "ebs"
          virtualization-type = "hvm"
        }
        owners      = ["099720109477"]
        most_recent = true
      }
    }
  }

  dynamic "source" {
    for_each = local.architecture == "arm64" ? local.ubuntu : {}
    labels   = ["amazon-ebs.host"]

    content {
      name          = "ubuntu-${source.key}-arm64"
      instance_type = "t4g.large"
      ami_name      = "${local.name}-ubuntu-${source.key}-arm64-{{timestamp}}"

      source_ami_filter {
        filters = {
          name                = "${source.value}-arm64-server-*"
          root-device-type    = "ebs"
          virtualization-type = "hvm"
        }
        owners      = ["099720109477"]
        most_recent = true
      }
    }
  }

  provisioner "shell" {
    inline = ["cloud-init status --wait", "mkdir -p /tmp/valetd-build"]
  }

  provisioner "file" {
    source      = "${path.root}/../ami"
    destination = "/tmp/valetd-build"
  }

  provisioner "file" {
    sources     = [for package in values(local.packages) : package if package != ""]
    destination = "/tmp/valetd-build/"
  }

  # One process, since the last step removes what is in /tmp, itself included.
  provisioner "shell" {
    execute_command  = "sudo env {{ .Vars }} bash {{ .Path }}"
    environment_vars = local.given
    inline           = ["set -e", "cd /tmp/valetd-build", "chmod +x ami/provision ami/[0-9]*", "ami/provision --seal"]
  }

  post-processor "manifest" {
    output     = "target/packer/manifest.json"
    strip_path = true
    custom_data = {
      version      = local.version
      architecture = local.architecture
    }
  }
}

build {
  name    = "qemu"
  sources = ["source.qemu.host"]

  provisioner "shell" {
    inline = ["cloud-init status --wait", "mkdir -p /tmp/valetd-build"]
  }

  provisioner "file" {
    source      = "${path.root}/../ami"
    destination = "/tmp/valetd-build"
  }

  provisioner "file" {
    sources     = [for package in values(local.packages) : package if package != ""]
    destination = "/tmp/valetd-build/"
  }

  # One process, since the last step removes what is in /tmp, itself included.
  provisioner "shell" {
    execute_command  = "sudo env {{ .Vars }} bash {{ .Path }}"
    environment_vars = local.given
    inline           = ["set -e", "cd /tmp/valetd-build", "chmod +x ami/provision ami/[0-9]*", "ami/provision --seal"]
  }

  # After Packer's last connection: its user, with a password that everybody can read here, must not get into the image.
  provisioner "shell" {
    inline = ["sudo systemd-run --on-active=15 sh -c 'userdel --force --remove packer; rm -f /etc/sudoers.d/90-cloud-init-users; poweroff'"]
  }

  post-processor "manifest" {
    output     = "target/packer/manifest.json"
    strip_path = true
    custom_data = {
      version      = local.version
      architecture = local.architecture
    }
  }
}
