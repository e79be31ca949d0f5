# The bucket of the mosaics and two roles: one that runs regions, one that may delete.
#
#   terraform init && terraform apply -var bucket=… -var oidc_provider_arn=… -var oidc_issuer=…

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.80"
    }
  }
}

provider "aws" {
  region = var.region
}

resource "aws_s3_bucket" "mosaics" {
  bucket = var.bucket

  lifecycle {
    prevent_destroy = true
  }
}

# Off, on purpose. A generation is written once under a name of its own and never changed, so old
# versions would hold nothing but what `tar-pipeline prune` was asked to delete, and cost as much as
# it. The few objects that are replaced (collection, items, reports) are small and are made again by
# running the region again. What guards against deletion is that the worker's role cannot delete,
# unless it is asked to let old days go (`retention`).
resource "aws_s3_bucket_versioning" "mosaics" {
  bucket = aws_s3_bucket.mosaics.id

  versioning_configuration {
    status = "Disabled"
  }
}

# S3's own keys: mosaics of open data need no key policy, and KMS would ask money for every shard.
resource "aws_s3_bucket_server_side_encryption_configuration" "mosaics" {
  bucket = aws_s3_bucket.mosaics.id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_public_access_block" "mosaics" {
  bucket                  = aws_s3_bucket.mosaics.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

# No access lists: policies alone say who may do what.
resource "aws_s3_bucket_ownership_controls" "mosaics" {
  bucket = aws_s3_bucket.mosaics.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

# A killed worker leaves the parts of its upload, which nobody sees and everybody pays for. Nothing
# else expires by age: which generation is in use only its item knows.
resource "aws_s3_bucket_lifecycle_configuration" "mosaics" {
  bucket = aws_s3_bucket.mosaics.id

  rule {
    id     = "abort-uploads-that-nobody-finishes"
    status = "Enabled"

    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 2
    }
  }
}

resource "aws_s3_bucket_policy" "mosaics" {
  bucket     = aws_s3_bucket.mosaics.id
  policy     = templatefile("${path.module}/policies/bucket.json", local.names)
  depends_on = [aws_s3_bucket_public_access_block.mosaics]
}

locals {
  names = {
    bucket_arn = "arn:aws:s3:::${var.bucket}"
    prefix     = var.prefix
  }
  # Which Kubernetes service account makes which role; see kubernetes/service-accounts.yaml.
  roles = {
    worker = "region-runner"
    prune  = "pruner"
  }
}

resource "aws_iam_role" "this" {
  for_each = local.roles

  name = "tar-pipeline-${each.key}"
  assume_role_policy = templatefile("${path.module}/policies/trust.json", {
    oidc_provider_arn = var.oidc_provider_arn
    oidc_issuer       = var.oidc_issuer
    service_account   = "system:serviceaccount:${var.namespace}:${each.value}"
  })
}

# Plain JSON, so that anybody can read it and the tests can run it. Why they are what they are:
# - Listing is confined to the prefix "if exists": reading an object names no prefix, and S3 answers
#   "not there", which the pipeline asks all the time, only to whoever may list; "denied" otherwise.
# - The worker may delete one thing, the empty object by which it tries whether it can write before
#   it starts to work. Killed uploads are left to the lifecycle rule.
# - The pruner may delete below slots/ only: items and collection, which readers follow, stay.
resource "aws_iam_role_policy" "this" {
  for_each = local.roles

  name   = each.key
  role   = aws_iam_role.this[each.key].id
  policy = templatefile("${path.module}/policies/${each.key}.json", local.names)
}

# Only where regions say `keep_days`: then nightly runs delete whole days, items first, and the
# worker's role has to be able to. What regions remember and what stands above them it cannot delete.
resource "aws_iam_role_policy" "retire" {
  count = var.retention ? 1 : 0

  name   = "retire"
  role   = aws_iam_role.this["worker"].id
  policy = templatefile("${path.module}/policies/retire.json", local.names)
}
