output "execution_role_arn" {
  description = "The role of containers' functions."
  value       = aws_iam_role.container.arn
}

output "log_group_name" {
  description = "Where the logs of containers are in CloudWatch."
  value       = aws_cloudwatch_log_group.this["containers"].name
}

output "ecr_repository_url" {
  description = "Where images are kept."
  value       = aws_ecr_repository.images.repository_url
}

output "region" {
  description = "Where everything was made."
  value       = local.region
}

output "control_url" {
  description = "The HTTP API, for `sockerless serve --control`."
  value       = local.control_url
}

output "relay_url" {
  description = "The WebSocket API. Nobody has to set it: the control function tells it."
  value       = local.relay_url
}

output "user_policy_arn" {
  description = "The policy that lets a person use this Docker."
  value       = aws_iam_policy.user.arn
}

output "control_role_name" {
  description = "The role of the control function."
  value       = aws_iam_role.control.name
}

output "worker_role_name" {
  description = "The role of the function that makes and deletes containers' functions."
  value       = aws_iam_role.worker.name
}

locals {
  frontend_env = <<-LINES
    export SOCKERLESS_CONTROL=${local.control_url}
    export AWS_REGION=${local.region}
  LINES
}

output "frontend_env" {
  description = "The lines that `sockerless serve` needs: eval \"$(terraform output -raw frontend_env)\"."
  value       = local.frontend_env
}

output "backend_env" {
  description = "The same as frontend_env, under the name that it had in the Go version."
  value       = local.frontend_env
}
