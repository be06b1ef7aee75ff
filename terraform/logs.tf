# Made here and not by Lambda, so that they have a retention and go with the rest.
resource "aws_cloudwatch_log_group" "this" {
  #checkov:skip=CKV_AWS_158:a key of one's own costs money while nothing runs; CloudWatch's own key encrypts it
  #checkov:skip=CKV_AWS_338:how long logs are kept is the variable log_retention_days
  for_each = {
    control    = "/aws/lambda/${var.name}"
    worker     = "/aws/lambda/${local.worker}"
    containers = local.log_group
  }

  name              = each.value
  retention_in_days = var.log_retention_days
  tags              = local.tags
}
