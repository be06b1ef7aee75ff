variable "name" {
  description = "What everything made here is called. Two deployments in one account and region need two names."
  type        = string
  default     = "sockerless"
  validation {
    condition     = length(var.name) >= 3 && length(var.name) <= 19 && can(regex("^[a-z][a-z0-9]*(-[a-z0-9]+)*$", var.name)) && !startswith(var.name, "skls-")
    error_message = "The name has 3 to 19 characters: lower-case letters, digits and single hyphens between them, a letter first; names that begin with skls- are those of containers' functions."
  }
}

variable "region" {
  description = "The region that is meant, such as eu-west-1. The provider decides where everything is made; when this is set and the provider's region is another, nothing is."
  type        = string
  default     = null
  validation {
    condition     = var.region == null || can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "The region is not one of AWS's, such as eu-west-1."
  }
}

variable "package" {
  description = "The control function's zip, as `make package` builds it for the architecture."
  type        = string
  validation {
    condition     = endswith(var.package, ".zip")
    error_message = "The package is a .zip file."
  }
}

variable "architecture" {
  description = "Which processors the control function runs on, and containers whose images are for both: x86_64 or arm64, which costs a fifth less."
  type        = string
  default     = "x86_64"
  validation {
    condition     = contains(["x86_64", "arm64"], var.architecture)
    error_message = "The architecture is x86_64 or arm64."
  }
}

variable "memory" {
  description = "Memory in MiB of a container that names none (`docker run -m`). Lambda gives processors with it: one at 1,769."
  type        = number
  default     = 1769
  validation {
    condition     = var.memory >= 128 && var.memory <= 10240 && floor(var.memory) == var.memory
    error_message = "The memory is a whole number of MiB from 128 to 10240."
  }
}

variable "timeout" {
  description = "After how many seconds a container ends whatever it does. Lambda allows no more than 900."
  type        = number
  default     = 900
  validation {
    condition     = var.timeout >= 60 && var.timeout <= 900 && floor(var.timeout) == var.timeout
    error_message = "The timeout is a whole number of seconds from 60 (half of which is kept for stopping in order) to 900."
  }
}

variable "tmp_size" {
  description = "Size in MiB of /tmp, the one writable place of a container. 512 cost nothing; more is billed by the second."
  type        = number
  default     = 512
  validation {
    condition     = var.tmp_size >= 512 && var.tmp_size <= 10240 && floor(var.tmp_size) == var.tmp_size
    error_message = "The size of /tmp is a whole number of MiB from 512 to 10240."
  }
}

variable "log_retention_days" {
  description = "For how many days CloudWatch keeps the logs of containers and of the control function."
  type        = number
  default     = 14
  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "CloudWatch keeps logs for 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653 days."
  }
}

variable "subnet_ids" {
  description = "Subnets in which containers run, if they are to reach what is in a VPC. They need a way to API Gateway and S3 (a NAT gateway or endpoints, which cost money while idle). Empty: Lambda's own network, with the internet and without cost."
  type        = list(string)
  default     = []
  validation {
    condition     = alltrue([for id in var.subnet_ids : can(regex("^subnet-[0-9a-f]+$", id))])
    error_message = "An id of a subnet looks like subnet-0123456789abcdef0."
  }
}

variable "security_group_ids" {
  description = "Security groups of containers; needed with, and only with, subnet_ids."
  type        = list(string)
  default     = []
  validation {
    condition     = alltrue([for id in var.security_group_ids : can(regex("^sg-[0-9a-f]+$", id))])
    error_message = "An id of a security group looks like sg-0123456789abcdef0."
  }
}

variable "function_strategy" {
  description = "shared: one function for each image and size, used by all containers that are alike, deleted an hour after nobody refers to it. per-container: a function for each container, made by `docker create` and deleted by `docker rm`."
  type        = string
  default     = "shared"
  validation {
    condition     = contains(["shared", "per-container"], var.function_strategy)
    error_message = "The function strategy is shared or per-container."
  }
}

variable "spend_guard" {
  description = "What refuses the next start: max_containers, how many containers may run at once in all namespaces together; max_gb_seconds_per_day, how many GB-seconds may be begun in a day (UTC), counting each run with its whole time limit until it has ended. Null: no limit."
  type = object({
    max_containers         = optional(number)
    max_gb_seconds_per_day = optional(number)
  })
  default = {}
  validation {
    condition = alltrue([
      for limit in [var.spend_guard.max_containers, var.spend_guard.max_gb_seconds_per_day] :
      limit == null ? true : (limit >= 1 && floor(limit) == limit)
    ])
    error_message = "The limits of the spend guard are whole numbers from 1, or null."
  }
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
  validation {
    condition     = alltrue([for mirror in var.registry_mirrors : can(regex("^https?://[^/,]+$", mirror))])
    error_message = "A mirror is https://HOST[:PORT], without anything behind it."
  }
}

variable "insecure_registries" {
  description = "Registries without TLS, or with a certificate that nobody known has signed: HOST[:PORT] or a network such as 10.0.0.0/8."
  type        = list(string)
  default     = []
  validation {
    condition     = alltrue([for registry in var.insecure_registries : can(regex("^[^,[:space:]]+$", registry))])
    error_message = "A registry is HOST[:PORT] or a network such as 10.0.0.0/8."
  }
}

variable "hub_fallback" {
  description = "Where Docker Hub's official images come from when it throttles: a host and a path; none for nowhere."
  type        = string
  default     = "public.ecr.aws/docker"
  validation {
    condition     = length(var.hub_fallback) > 0
    error_message = "The fallback is a host and a path, such as public.ecr.aws/docker, or none."
  }
}

variable "image_retention_count" {
  description = "So many images are kept in the repository; when there are more, the oldest go."
  type        = number
  default     = 1000
  validation {
    condition     = var.image_retention_count >= 10 && floor(var.image_retention_count) == var.image_retention_count
    error_message = "The repository keeps a whole number of images, at least 10."
  }
}

variable "tags" {
  description = "Tags of everything made here, containers' functions included."
  type        = map(string)
  default     = {}
  # They are in the control function's environment, of which Lambda takes 4 KB.
  validation {
    condition     = length(jsonencode(var.tags)) <= 2000
    error_message = "All tags together, as JSON, have at most 2000 characters."
  }
  validation {
    condition     = length(var.tags) <= 40 && alltrue([for key, value in var.tags : !startswith(lower(key), "aws:") && length(key) <= 128 && length(value) <= 256])
    error_message = "There are at most 40 tags, their names at most 128 characters long and without aws: in front, their values at most 256."
  }
}

variable "emulator" {
  description = "For tests alone: an emulator of AWS, which has no host name for each API (endpoint, without a slash at its end) and for its registry (host:port)."
  type = object({
    endpoint = string
    registry = string
  })
  default = null
}
