# Requests of frontends, signed.
resource "aws_apigatewayv2_api" "control" {
  name          = "${var.name}-control"
  description   = "Sockerless: the Docker API, for those who sign"
  protocol_type = "HTTP"
  tags          = local.tags
}

resource "aws_apigatewayv2_integration" "control" {
  api_id                 = aws_apigatewayv2_api.control.id
  integration_type       = "AWS_PROXY"
  integration_uri        = aws_lambda_function.control.invoke_arn
  payload_format_version = "2.0"
}

resource "aws_apigatewayv2_route" "control" {
  api_id             = aws_apigatewayv2_api.control.id
  route_key          = "$default"
  target             = "integrations/${aws_apigatewayv2_integration.control.id}"
  authorization_type = "AWS_IAM"
}

resource "aws_apigatewayv2_stage" "control" {
  #checkov:skip=CKV_AWS_76:the control function's log has every request; access logs would be billed a second time
  api_id      = aws_apigatewayv2_api.control.id
  name        = "$default"
  auto_deploy = true
  tags        = local.tags
}

# Where agents and frontends meet.
resource "aws_apigatewayv2_api" "relay" {
  name                       = "${var.name}-relay"
  description                = "Sockerless: the relay between frontends and containers"
  protocol_type              = "WEBSOCKET"
  route_selection_expression = "$request.body.action"
  tags                       = local.tags
}

resource "aws_apigatewayv2_integration" "relay" {
  api_id             = aws_apigatewayv2_api.relay.id
  integration_type   = "AWS_PROXY"
  integration_method = "POST"
  integration_uri    = aws_lambda_function.control.invoke_arn
}

resource "aws_apigatewayv2_route" "relay" {
  #checkov:skip=CKV_AWS_309:agents and frontends show different credentials, and a WebSocket API has one kind of authorisation; the control function checks them on $connect
  for_each = toset(["$connect", "$disconnect", "$default"])

  api_id             = aws_apigatewayv2_api.relay.id
  route_key          = each.value
  target             = "integrations/${aws_apigatewayv2_integration.relay.id}"
  authorization_type = "NONE"
}

resource "aws_apigatewayv2_stage" "relay" {
  #checkov:skip=CKV2_AWS_51:agents and frontends show short-lived credentials that the control function has made
  #checkov:skip=CKV_AWS_76:what is relayed is ciphertext, and the control function's log has the connections; access logs would be billed
  api_id      = aws_apigatewayv2_api.relay.id
  name        = local.relay_stage
  auto_deploy = true
  tags        = local.tags
}
