# For Packer 1.7 and newer, which fetch their builders: copy this beside valetd.pkr.hcl, then `packer init packer`. Packer 1.6.6
# refuses the block, and brings its builders.

packer {
  required_plugins {
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = ">= 1.3.0, < 2.0.0"
    }
    qemu = {
      source  = "github.com/hashicorp/qemu"
      version = ">= 1.1.0, < 2.0.0"
    }
  }
}
