package aws

// Retryer is that of [Open].
var Retryer = retryer
