# The images of containers, as they came and with the agent in them.
resource "aws_ecr_repository" "images" {
  #checkov:skip=CKV_AWS_51:a tag that a person gives with `docker tag` may be given again to another image, as under Docker
  #checkov:skip=CKV_AWS_136:a key of one's own costs money while nothing runs; ECR's own key encrypts it
  name                 = var.name
  image_tag_mutability = "MUTABLE"
  force_delete         = true
  tags                 = local.tags

  image_scanning_configuration {
    scan_on_push = true
  }
}

resource "aws_ecr_repository_policy" "images" {
  repository = aws_ecr_repository.images.name
  policy     = templatefile("${path.module}/policies/repository.json", local.policy_values)
}

resource "aws_ecr_lifecycle_policy" "images" {
  repository = aws_ecr_repository.images.name
  policy = jsonencode({
    rules = [{
      rulePriority = 1
      description  = "the oldest go first"
      selection = {
        tagStatus   = "any"
        countType   = "imageCountMoreThan"
        countNumber = var.image_retention_count
      }
      action = { type = "expire" }
    }]
  })
}

# ECR makes a repository for each image that is pulled so; `sockerless destroy-functions` deletes them.
resource "aws_ecr_pull_through_cache_rule" "public" {
  for_each = var.pull_through_cache ? {
    ecr-public = "public.ecr.aws"
    k8s        = "registry.k8s.io"
    quay       = "quay.io"
  } : {}

  ecr_repository_prefix = "${var.name}/${each.key}"
  upstream_registry_url = each.value
}
