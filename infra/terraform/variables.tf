variable "bucket" {
  description = "Name of the bucket; stores are s3://BUCKET/PREFIX."
  type        = string
}

variable "prefix" {
  description = "The one folder of the bucket that the roles reach, without slashes at its ends."
  type        = string
  default     = "mosaics"

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9/_-]*[A-Za-z0-9]$", var.prefix))
    error_message = "prefix must be a plain path: an empty one or a wildcard would open the whole bucket."
  }
}

variable "region" {
  description = "AWS region of the bucket: the one where the scenes and the workers are."
  type        = string
  default     = "eu-central-1"
}

variable "oidc_provider_arn" {
  description = "ARN of the cluster's OIDC provider, which vouches for service accounts."
  type        = string
}

variable "oidc_issuer" {
  description = "The same cluster's issuer, without https://."
  type        = string
}

variable "namespace" {
  description = "Kubernetes namespace of the pipeline."
  type        = string
  default     = "tar-pipeline"
}

variable "retention" {
  description = "Whether nightly runs may delete days that regions no longer keep (keep_days)."
  type        = bool
  default     = false
}
