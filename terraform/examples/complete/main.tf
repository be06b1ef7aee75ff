# A whole deployment; `make deploy` applies this one. Everything can be set by
# TF_VAR_… or a terraform.tfvars beside it.
terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.80, < 7.0"
    }
  }
}

provider "aws" {
  region = var.region
}

module "sockerless" {
  source = "../.."

  name                  = var.name
  region                = var.region
  package               = var.package
  architecture          = var.architecture
  memory                = var.memory
  timeout               = var.timeout
  tmp_size              = var.tmp_size
  log_retention_days    = var.log_retention_days
  subnet_ids            = var.subnet_ids
  security_group_ids    = var.security_group_ids
  function_strategy     = var.function_strategy
  spend_guard           = var.spend_guard
  reserve_worker        = var.reserve_worker
  pull_through_cache    = var.pull_through_cache
  registry_mirrors      = var.registry_mirrors
  insecure_registries   = var.insecure_registries
  hub_fallback          = var.hub_fallback
  image_retention_count = var.image_retention_count
  tags                  = var.tags
}
