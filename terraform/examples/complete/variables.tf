# As the module's own, which checks them.

variable "name" {
  description = "What everything made here is called. Two deployments in one account and region need two names."
  type        = string
  default     = "sockerless"
}

variable "region" {
  description = "The region in which everything is made, such as eu-west-1. Null: what AWS_REGION or the profile says."
  type        = string
  default     = null
}

variable "package" {
  description = "The control function's zip, as `make package` builds it for the architecture; relative to this folder."
  type        = string
  default     = "../../../target/lambda/control.zip"
}

variable "architecture" {
  description = "Which processors the control function runs on, and containers whose images are for both: x86_64 or arm64, which costs a fifth less."
  type        = string
  default     = "x86_64"
}

variable "memory" {
  description = "Memory in MiB of a container that names none (`docker run -m`). Lambda gives processors with it: one at 1,769."
  type        = number
  default     = 1769
}

variable "timeout" {
  description = "After how many seconds a container ends whatever it does. Lambda allows no more than 900."
  type        = number
  default     = 900
}

variable "tmp_size" {
  description = "Size in MiB of /tmp, the one writable place of a container. 512 cost nothing; more is billed by the second."
  type        = number
  default     = 512
}

variable "log_retention_days" {
  description = "For how many days CloudWatch keeps the logs of containers and of the control function."
  type        = number
  default     = 14
}

variable "subnet_ids" {
  description = "Subnets in which containers run, if they are to reach what is in a VPC. They need a way to API Gateway and S3 (a NAT gateway or endpoints, which cost money while idle). Empty: Lambda's own network, with the internet and without cost."
  type        = list(string)
  default     = []
}

variable "security_group_ids" {
  description = "Security groups of containers; needed with, and only with, subnet_ids."
  type        = list(string)
  default     = []
}

variable "function_strategy" {
  description = "shared: one function for each image and size, used by all containers that are alike, deleted an hour after nobody refers to it. per-container: a function for each container, made by `docker create` and deleted by `docker rm`."
  type        = string
  default     = "shared"
}

variable "spend_guard" {
  description = "What refuses the next start: max_containers, how many containers may run at once in all namespaces together; max_gb_seconds_per_day, how many GB-seconds may be begun in a day (UTC), counting each run with its whole time limit until it has ended. Null: no limit."
  type = object({
    max_containers         = optional(number)
    max_gb_seconds_per_day = optional(number)
  })
  default = {}
}

variable "reserve_worker" {
  description = "Whether the function that makes and deletes containers' functions has one reserved execution, so that it never runs twice at once. Set it to false in an account whose concurrency is below 101 (new accounts have 10): then a burst of new images may meet Lambda's limit and take longer."
  type        = bool
  default     = true
}

variable "pull_through_cache" {
  description = "Whether images of ECR Public, registry.k8s.io and Quay can be had through ECR's pull-through cache, as NAME/ecr-public/…, NAME/k8s/… and NAME/quay/… in this account's registry. It needs no credentials, and no `docker login`."
  type        = bool
  default     = true
}

variable "registry_mirrors" {
  description = "Mirrors of Docker Hub, which are asked before it: https://HOST[:PORT]."
  type        = list(string)
  default     = []
}

variable "insecure_registries" {
  description = "Registries without TLS, or with a certificate that nobody known has signed: HOST[:PORT] or a network such as 10.0.0.0/8."
  type        = list(string)
  default     = []
}

variable "hub_fallback" {
  description = "Where Docker Hub's official images come from when it throttles: a host and a path; none for nowhere."
  type        = string
  default     = "public.ecr.aws/docker"
}

variable "image_retention_count" {
  description = "So many images are kept in the repository; when there are more, the oldest go."
  type        = number
  default     = 1000
}

variable "tags" {
  description = "Tags of everything made here, containers' functions included."
  type        = map(string)
  default     = {}
}
