module mvs

go 1.26.0

require (
	github.com/jackc/pgx/v5 v5.7.1
	github.com/kmsencrypted/kmsencrypted v0.0.0
	go.opentelemetry.io/otel v1.32.0
	google.golang.org/grpc v1.68.0
	gorm.io/gorm v1.25.12
)
