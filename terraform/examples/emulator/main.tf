# A deployment at an emulator of AWS, for tests: with the same policies, and a
# person who may use it. The provider finds the emulator by AWS_ENDPOINT_URL.
terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.80, < 7.0"
    }
  }
}

variable "endpoint" {
  description = "Where the emulator is."
  type        = string
}

variable "registry" {
  description = "Where its registry is: host:port."
  type        = string
}

variable "package" {
  description = "The control function's zip."
  type        = string
}

variable "architecture" {
  description = "This machine's: x86_64 or arm64."
  type        = string
}

variable "memory" {
  description = "As the module's own."
  type        = number
  default     = 1769
}

variable "timeout" {
  description = "As the module's own."
  type        = number
  default     = 900
}

provider "aws" {
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  s3_use_path_style           = true
}

module "sockerless" {
  source = "../.."

  package            = var.package
  architecture       = var.architecture
  memory             = var.memory
  timeout            = var.timeout
  pull_through_cache = false
  emulator = {
    endpoint = var.endpoint
    registry = var.registry
  }
}

# What AWS does not need. MiniStack 1.5 asks for CreateFunction on "*" (the
# function's name is in the body), and takes PutFunctionEventInvokeConfig for
# UpdateFunctionCode.
resource "aws_iam_role_policy" "emulator" {
  #checkov:skip=CKV_AWS_355:the emulator asks for it, and nothing real is behind it
  #checkov:skip=CKV_AWS_290:the emulator asks for it, and nothing real is behind it
  #checkov:skip=CKV_AWS_286:the emulator asks for it, and nothing real is behind it
  name = "emulator"
  role = module.sockerless.worker_role_name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid      = "OnlyForTheEmulator"
      Effect   = "Allow"
      Action   = ["lambda:CreateFunction", "lambda:UpdateFunctionCode"]
      Resource = ["*"]
    }]
  })
}

resource "aws_iam_user" "person" {
  #checkov:skip=CKV_AWS_273:an emulator has no single sign-on
  name = "ann"
}

resource "aws_iam_user_policy_attachment" "person" {
  #checkov:skip=CKV_AWS_40:one person in a test needs no group
  user       = aws_iam_user.person.name
  policy_arn = module.sockerless.user_policy_arn
}

resource "aws_iam_access_key" "person" {
  user = aws_iam_user.person.name
}

output "frontend_env" {
  description = "The lines for `sockerless serve`, with that person's credentials."
  sensitive   = true
  value       = <<-LINES
    ${chomp(module.sockerless.frontend_env)}
    export AWS_ACCESS_KEY_ID=${aws_iam_access_key.person.id} AWS_SECRET_ACCESS_KEY=${aws_iam_access_key.person.secret}
  LINES
}
