# The control function.
resource "aws_iam_role" "control" {
  name               = "${var.name}-control"
  assume_role_policy = templatefile("${path.module}/policies/assume-lambda.json", local.policy_values)
  tags               = local.tags
}

resource "aws_iam_role_policy" "control" {
  name = "control"
  role = aws_iam_role.control.id
  policy = templatefile("${path.module}/policies/control.json", merge(local.policy_values, {
    relay_api     = aws_apigatewayv2_api.relay.id
    relay_stage   = local.relay_stage
    schedule_role = aws_iam_role.schedule.arn
  }))
}

# The one that makes and deletes containers' functions.
resource "aws_iam_role" "worker" {
  name               = "${var.name}-worker"
  assume_role_policy = templatefile("${path.module}/policies/assume-lambda.json", local.policy_values)
  tags               = local.tags
}

resource "aws_iam_role_policy" "worker" {
  name = "worker"
  role = aws_iam_role.worker.id
  policy = templatefile("${path.module}/policies/worker.json", merge(local.policy_values, {
    container_role = aws_iam_role.container.arn
  }))
}

resource "aws_iam_role_policy" "worker_vpc" {
  count = length(var.subnet_ids) > 0 ? 1 : 0

  name   = "vpc"
  role   = aws_iam_role.worker.id
  policy = templatefile("${path.module}/policies/worker-vpc.json", local.policy_values)
}

# Containers. Their processes do not see its credentials; the agent does.
resource "aws_iam_role" "container" {
  name               = "${var.name}-container"
  assume_role_policy = templatefile("${path.module}/policies/assume-lambda.json", local.policy_values)
  tags               = local.tags
}

resource "aws_iam_role_policy" "container" {
  name   = "container"
  role   = aws_iam_role.container.id
  policy = templatefile("${path.module}/policies/container.json", local.policy_values)
}

resource "aws_iam_role_policy" "container_vpc" {
  count = length(var.subnet_ids) > 0 ? 1 : 0

  name   = "vpc"
  role   = aws_iam_role.container.id
  policy = templatefile("${path.module}/policies/container-vpc.json", local.policy_values)
}

# The schedule that wakes the control function when something is due.
resource "aws_iam_role" "schedule" {
  name               = "${var.name}-schedule"
  assume_role_policy = templatefile("${path.module}/policies/assume-scheduler.json", local.policy_values)
  tags               = local.tags
}

resource "aws_iam_role_policy" "schedule" {
  name   = "schedule"
  role   = aws_iam_role.schedule.id
  policy = templatefile("${path.module}/policies/schedule.json", local.policy_values)
}

# For people: attach it to whoever may use this Docker.
resource "aws_iam_policy" "user" {
  name        = "${var.name}-user"
  description = "May use the Docker of the deployment ${var.name}"
  policy = templatefile("${path.module}/policies/user.json", merge(local.policy_values, {
    control_api = aws_apigatewayv2_api.control.id
  }))
  tags = local.tags
}
