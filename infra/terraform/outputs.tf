output "store" {
  description = "What goes into `store` of regions.yaml."
  value       = "s3://${var.bucket}/${var.prefix}"
}

output "role_arns" {
  description = "What goes into the annotations of kubernetes/service-accounts.yaml."
  value       = { for name, role in aws_iam_role.this : local.roles[name] => role.arn }
}
