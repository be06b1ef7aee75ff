# All records: containers, runs, connections, images.
resource "aws_dynamodb_table" "records" {
  #checkov:skip=CKV_AWS_119:a key of one's own costs money while nothing runs; AWS's own key encrypts it
  name         = var.name
  billing_mode = "PAY_PER_REQUEST"
  hash_key     = "pk"
  range_key    = "sk"
  tags         = local.tags

  attribute {
    name = "pk"
    type = "S"
  }

  attribute {
    name = "sk"
    type = "S"
  }

  ttl {
    attribute_name = "ttl"
    enabled        = true
  }

  point_in_time_recovery {
    enabled = true
  }

  server_side_encryption {
    enabled = false
  }
}

# Bodies too large for the HTTP API, and the logs of containers that ended.
resource "aws_s3_bucket" "blobs" {
  #checkov:skip=CKV_AWS_18:presigned URLs are given out by the control function alone, whose log says to whom; access logs would be billed
  #checkov:skip=CKV_AWS_21:an object is written once under a name of its own, and never replaced
  #checkov:skip=CKV_AWS_144:what is here lives as long as its container, in one region
  #checkov:skip=CKV_AWS_145:a key of one's own costs money while nothing runs; S3's own key encrypts it
  #checkov:skip=CKV2_AWS_62:nobody is to be told of objects
  bucket        = local.bucket
  force_destroy = true
  tags          = local.tags
}

resource "aws_s3_bucket_public_access_block" "blobs" {
  bucket                  = aws_s3_bucket.blobs.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "blobs" {
  bucket = aws_s3_bucket.blobs.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "blobs" {
  bucket = aws_s3_bucket.blobs.id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "blobs" {
  bucket = aws_s3_bucket.blobs.id

  rule {
    id     = "bodies-of-requests-are-read-at-once"
    status = "Enabled"

    filter {
      prefix = "bodies/"
    }

    expiration {
      days = 2
    }
  }

  rule {
    id     = "layers-of-commits-are-made-images-at-once"
    status = "Enabled"

    filter {
      prefix = "commits/"
    }

    expiration {
      days = 2
    }
  }

  rule {
    id     = "uploads-that-broke-off"
    status = "Enabled"

    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 2
    }
  }
}

resource "aws_s3_bucket_policy" "blobs" {
  # An emulator has no TLS, and would let nobody in.
  count = var.emulator == null ? 1 : 0

  bucket = aws_s3_bucket.blobs.id
  policy = templatefile("${path.module}/policies/bucket.json", local.policy_values)

  depends_on = [aws_s3_bucket_public_access_block.blobs]
}
