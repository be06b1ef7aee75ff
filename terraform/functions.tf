locals {
  # The same program is both: what it is asked decides.
  function_environment = {
    SOCKERLESS_TABLE             = aws_dynamodb_table.records.name
    SOCKERLESS_BUCKET            = aws_s3_bucket.blobs.bucket
    SOCKERLESS_REPOSITORY        = var.emulator == null ? aws_ecr_repository.images.repository_url : "${var.emulator.registry}/${aws_ecr_repository.images.name}"
    SOCKERLESS_RELAY_URL         = local.relay_url
    SOCKERLESS_RELAY_CALLBACK    = local.callback
    SOCKERLESS_CONTAINER_ROLE    = aws_iam_role.container.arn
    SOCKERLESS_FUNCTION_ARN      = "${local.function_arns}:${var.name}"
    SOCKERLESS_WORKER_ARN        = "${local.function_arns}:${local.worker}"
    SOCKERLESS_SCHEDULE          = local.schedule
    SOCKERLESS_SCHEDULE_ROLE     = aws_iam_role.schedule.arn
    SOCKERLESS_LOG_GROUP         = aws_cloudwatch_log_group.this["containers"].name
    SOCKERLESS_ARCHITECTURE      = var.architecture
    SOCKERLESS_FUNCTION_STRATEGY = var.function_strategy
    SOCKERLESS_MEMORY_MIB        = var.memory
    SOCKERLESS_TMP_MIB           = var.tmp_size
    SOCKERLESS_TIMEOUT_S         = var.timeout
    SOCKERLESS_SUBNETS           = join(",", var.subnet_ids)
    SOCKERLESS_SECURITY_GROUPS   = join(",", var.security_group_ids)
    SOCKERLESS_TAGS              = jsonencode(local.tags)
    SOCKERLESS_REGISTRY_MIRROR   = join(",", var.registry_mirrors)
    SOCKERLESS_INSECURE_REGISTRY = join(",", var.insecure_registries)
    SOCKERLESS_HUB_FALLBACK      = var.hub_fallback
    # Zero stands for none.
    SOCKERLESS_MAX_CONTAINERS         = var.spend_guard.max_containers == null ? 0 : var.spend_guard.max_containers
    SOCKERLESS_MAX_GB_SECONDS_PER_DAY = var.spend_guard.max_gb_seconds_per_day == null ? 0 : var.spend_guard.max_gb_seconds_per_day
  }
}

# Requests, relayed messages, failed invocations, the sweep, work longer than a request.
resource "aws_lambda_function" "control" {
  #checkov:skip=CKV_AWS_50:X-Ray is billed for each request; the log says what is needed
  #checkov:skip=CKV_AWS_115:a limit of its own would refuse clients; the account's limits and the spend guard bound it
  #checkov:skip=CKV_AWS_116:what fails asynchronously is tried again by Lambda and by the sweep, and answered over the relay
  #checkov:skip=CKV_AWS_117:it speaks to AWS's public endpoints alone; in a VPC it would need a NAT gateway, billed while idle
  #checkov:skip=CKV_AWS_173:no secret is in its environment
  #checkov:skip=CKV_AWS_272:the zip is built and deployed by the same person
  function_name    = var.name
  description      = "Sockerless: the control plane of a Docker whose containers are functions"
  role             = aws_iam_role.control.arn
  package_type     = "Zip"
  filename         = var.package
  source_code_hash = filebase64sha256(var.package)
  runtime          = "provided.al2023"
  handler          = "bootstrap"
  architectures    = [var.architecture]
  memory_size      = 512
  # Requests have 30 seconds, by the API; pulling and copying images may take as long as Lambda allows.
  timeout = 900
  tags    = local.tags

  environment {
    variables = local.function_environment
  }

  lifecycle {
    precondition {
      condition     = (length(var.subnet_ids) > 0) == (length(var.security_group_ids) > 0)
      error_message = "subnet_ids and security_group_ids go together: give both or neither."
    }
  }

  depends_on = [aws_cloudwatch_log_group.this, aws_iam_role_policy.control]
}

# Lambda takes 15 control calls a second for the whole account: all that makes
# or deletes functions queues in the table, and this one alone works it off.
resource "aws_lambda_function" "worker" {
  #checkov:skip=CKV_AWS_50:X-Ray is billed for each request; the log says what is needed
  #checkov:skip=CKV_AWS_115:it has one reserved execution, unless the account is too small for that (reserve_worker)
  #checkov:skip=CKV_AWS_116:what it is to do is in the table, and stays there until it is done
  #checkov:skip=CKV_AWS_117:it speaks to AWS's public endpoints alone; in a VPC it would need a NAT gateway, billed while idle
  #checkov:skip=CKV_AWS_173:no secret is in its environment
  #checkov:skip=CKV_AWS_272:the zip is built and deployed by the same person
  function_name                  = local.worker
  description                    = "Sockerless: makes and deletes the functions of containers, one after the other"
  role                           = aws_iam_role.worker.arn
  package_type                   = "Zip"
  filename                       = var.package
  source_code_hash               = filebase64sha256(var.package)
  runtime                        = "provided.al2023"
  handler                        = "bootstrap"
  architectures                  = [var.architecture]
  memory_size                    = 256
  timeout                        = 300
  reserved_concurrent_executions = var.reserve_worker ? 1 : -1
  tags                           = local.tags

  environment {
    variables = local.function_environment
  }

  depends_on = [aws_cloudwatch_log_group.this, aws_iam_role_policy.worker]
}

# Work that is longer than an invocation goes on in the next, and that one in the next: Lambda
# takes more than sixteen of them for a loop, and would end it.
resource "aws_lambda_function_recursion_config" "this" {
  for_each = {
    control = aws_lambda_function.control.function_name
    worker  = aws_lambda_function.worker.function_name
  }

  function_name  = each.value
  recursive_loop = "Allow"
}

resource "aws_lambda_permission" "gateway" {
  for_each = {
    control = aws_apigatewayv2_api.control.execution_arn
    relay   = aws_apigatewayv2_api.relay.execution_arn
  }

  statement_id  = "gateway-${each.key}"
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.control.function_name
  principal     = "apigateway.amazonaws.com"
  source_arn    = "${each.value}/*"
}
