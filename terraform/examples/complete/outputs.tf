output "execution_role_arn" {
  description = "The role of containers' functions."
  value       = module.sockerless.execution_role_arn
}

output "log_group_name" {
  description = "Where the logs of containers are in CloudWatch."
  value       = module.sockerless.log_group_name
}

output "ecr_repository_url" {
  description = "Where images are kept."
  value       = module.sockerless.ecr_repository_url
}

output "region" {
  description = "Where everything was made."
  value       = module.sockerless.region
}

output "control_url" {
  description = "The HTTP API, for `sockerless serve --control`."
  value       = module.sockerless.control_url
}

output "relay_url" {
  description = "The WebSocket API. Nobody has to set it: the control function tells it."
  value       = module.sockerless.relay_url
}

output "user_policy_arn" {
  description = "The policy that lets a person use this Docker."
  value       = module.sockerless.user_policy_arn
}

output "frontend_env" {
  description = "The lines that `sockerless serve` needs: eval \"$(terraform output -raw frontend_env)\"."
  value       = module.sockerless.frontend_env
}

output "backend_env" {
  description = "The same as frontend_env, under the name that it had in the Go version."
  value       = module.sockerless.backend_env
}
