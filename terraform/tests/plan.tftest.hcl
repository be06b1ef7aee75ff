# What would be made, and what is refused: plans alone, for which no account is needed.
provider "aws" {
  region                      = "eu-west-1"
  access_key                  = "none"
  secret_key                  = "none"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
}

override_data {
  target = data.aws_caller_identity.current
  values = { account_id = "123456789012" }
}

run "as_it_is" {
  command = plan

  assert {
    condition     = aws_lambda_function.worker.reserved_concurrent_executions == 1
    error_message = "The worker may run twice at once."
  }
  assert {
    condition     = toset([for config in aws_lambda_function_recursion_config.this : config.recursive_loop]) == toset(["Allow"])
    error_message = "Lambda would end what goes on in another invocation."
  }
  assert {
    condition     = length(aws_iam_role_policy.worker_vpc) + length(aws_iam_role_policy.container_vpc) == 0
    error_message = "Without a VPC nobody needs its permissions."
  }
  assert {
    condition     = toset(keys(aws_ecr_pull_through_cache_rule.public)) == toset(["ecr-public", "k8s", "quay"])
    error_message = "These are the registries that need no credentials."
  }
  assert {
    condition     = output.region == "eu-west-1"
    error_message = "It would be made elsewhere."
  }
}

run "everything_set" {
  command = plan

  variables {
    # As long as a name may be.
    name               = "nineteen-characters"
    region             = "eu-west-1"
    architecture       = "arm64"
    subnet_ids         = ["subnet-0123456789abcdef0"]
    security_group_ids = ["sg-0123456789abcdef0"]
    function_strategy  = "per-container"
    spend_guard        = { max_containers = 3 }
    reserve_worker     = false
    registry_mirrors   = ["https://mirror.example.com", "http://10.0.0.1:5000"]
    tags               = { team = "search" }
  }

  assert {
    condition     = aws_lambda_function.control.architectures == tolist(["arm64"]) && aws_lambda_function.worker.reserved_concurrent_executions == -1
    error_message = "The functions are others."
  }
  assert {
    condition     = length(aws_iam_role_policy.worker_vpc) == 1 && length(aws_iam_role_policy.container_vpc) == 1
    error_message = "In a VPC both need its permissions."
  }
  assert {
    condition     = jsondecode(local.function_environment.SOCKERLESS_TAGS) == { Sockerless = "nineteen-characters", team = "search" }
    error_message = "Containers' functions get other tags."
  }
  assert {
    condition     = local.function_environment.SOCKERLESS_REGISTRY_MIRROR == "https://mirror.example.com,http://10.0.0.1:5000" && local.function_environment.SOCKERLESS_MAX_CONTAINERS == 3 && local.function_environment.SOCKERLESS_MAX_GB_SECONDS_PER_DAY == 0
    error_message = "The control function gets other settings."
  }
}

run "what_makes_no_sense" {
  command = plan

  variables {
    name                  = "Bad"
    region                = "somewhere"
    architecture          = "x"
    memory                = 127
    timeout               = 901
    tmp_size              = 10241
    log_retention_days    = 2
    subnet_ids            = ["x"]
    security_group_ids    = ["y"]
    function_strategy     = "y"
    spend_guard           = { max_containers = 0 }
    registry_mirrors      = ["mirror.example.com"]
    insecure_registries   = ["a,b"]
    hub_fallback          = ""
    image_retention_count = 1
    tags                  = { "aws:x" = "y" }
  }

  expect_failures = [
    var.name, var.region, var.architecture, var.memory, var.timeout, var.tmp_size,
    var.log_retention_days, var.subnet_ids, var.security_group_ids, var.function_strategy,
    var.spend_guard, var.registry_mirrors, var.insecure_registries, var.hub_fallback,
    var.image_retention_count, var.tags,
  ]
}

run "names_that_ecr_does_not_take" {
  command = plan

  variables {
    name = "two--hyphens"
  }

  expect_failures = [var.name]
}

run "names_that_are_too_long" {
  command = plan

  variables {
    name = "more-than-nineteen-of"
  }

  expect_failures = [var.name]
}

run "names_of_functions_of_containers" {
  command = plan

  variables {
    name = "skls-mine"
  }

  expect_failures = [var.name]
}

run "subnets_without_groups" {
  command = plan

  variables {
    subnet_ids = ["subnet-0123456789abcdef0"]
  }

  expect_failures = [aws_lambda_function.control]
}

run "another_region" {
  command = plan

  variables {
    region = "us-east-1"
  }

  expect_failures = [data.aws_region.current]
}
