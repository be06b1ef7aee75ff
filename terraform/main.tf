data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_region" "current" {
  lifecycle {
    postcondition {
      condition     = var.region == null || var.region == self.id
      error_message = "The provider makes everything in ${self.id}, and the region that is meant is ${coalesce(var.region, self.id)}: set the provider's region (AWS_REGION)."
    }
  }
}

locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
  region    = data.aws_region.current.id

  tags          = merge(var.tags, { Sockerless = var.name })
  bucket        = "${var.name}-${local.account}-${local.region}"
  log_group     = "/sockerless/${var.name}/containers"
  worker        = "${var.name}-worker"
  schedule      = "${var.name}-sweep"
  relay_stage   = "v1"
  function_arns = "arn:${local.partition}:lambda:${local.region}:${local.account}:function"

  # What every policy may speak of.
  policy_values = {
    partition = local.partition
    region    = local.region
    account   = local.account
    name      = var.name
    bucket    = local.bucket
  }

  api_domain = "execute-api.${local.region}.${data.aws_partition.current.dns_suffix}"
  emulated   = var.emulator == null ? "" : "${var.emulator.endpoint}/_aws/execute-api"

  control_url = var.emulator == null ? "https://${aws_apigatewayv2_api.control.id}.${local.api_domain}" : "${local.emulated}/${aws_apigatewayv2_api.control.id}"
  callback    = var.emulator == null ? "https://${aws_apigatewayv2_api.relay.id}.${local.api_domain}/${local.relay_stage}" : "${local.emulated}/${aws_apigatewayv2_api.relay.id}/${local.relay_stage}"
  # http becomes ws, and https wss.
  relay_url = "ws${trimprefix(local.callback, "http")}"
}
