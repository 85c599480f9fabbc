module github.com/kmsencrypted/kmsencrypted

go 1.26.0

// Requirements are floors for users: each is the lowest version that works, with
// the reason where it cannot be lower. Of those without a reason no older version
// was tried. tools/newest has the newest ones.
require (
	cloud.google.com/go/kms v1.22.0 // gocloud.dev requires it
	entgo.io/ent v0.13.1
	github.com/Azure/azure-sdk-for-go/sdk/azcore v1.18.1 // gocloud.dev requires it
	github.com/Azure/azure-sdk-for-go/sdk/azidentity v1.10.1 // gocloud.dev requires it
	github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys v1.3.0
	github.com/alecthomas/kong v1.6.0
	github.com/aws/aws-sdk-go-v2 v1.39.6 // gocloud.dev requires it
	github.com/aws/aws-sdk-go-v2/config v1.31.17 // gocloud.dev requires it
	github.com/aws/aws-sdk-go-v2/credentials v1.18.21 // gocloud.dev requires it
	github.com/aws/aws-sdk-go-v2/service/kms v1.41.2 // gocloud.dev requires it; KeyMaterialId
	github.com/aws/aws-sdk-go-v2/service/s3 v1.89.2 // gocloud.dev requires it
	github.com/aws/smithy-go v1.23.2 // gocloud.dev requires it
	github.com/go-sql-driver/mysql v1.9.3 // gocloud.dev requires it
	github.com/google/uuid v1.6.0 // gocloud.dev requires it
	github.com/googleapis/gax-go/v2 v2.15.0 // gocloud.dev requires it
	github.com/hashicorp/vault/api v1.16.0
	github.com/jackc/pgx/v5 v5.7.4 // river requires it
	github.com/jmoiron/sqlx v1.3.5
	github.com/miekg/pkcs11 v1.1.1
	github.com/riverqueue/river v0.22.0 // Config.Schema
	github.com/riverqueue/river/riverdriver/riverpgxv5 v0.22.0 // as river
	github.com/riverqueue/river/rivertype v0.22.0 // as river
	github.com/rogpeppe/go-internal v1.14.1 // testscript.Main
	github.com/schollz/progressbar/v3 v3.18.0
	github.com/uptrace/bun v1.1.12 // the lowest that was tried
	github.com/uptrace/bun/dialect/mysqldialect v1.1.12 // tests; as bun
	github.com/uptrace/bun/dialect/pgdialect v1.1.12 // tests; as bun
	github.com/uptrace/bun/dialect/sqlitedialect v1.1.12 // tests; as bun
	go.opentelemetry.io/otel v1.37.0 // gocloud.dev requires it
	go.opentelemetry.io/otel/metric v1.37.0 // gocloud.dev requires it
	go.opentelemetry.io/otel/sdk v1.37.0 // gocloud.dev requires it
	go.opentelemetry.io/otel/sdk/metric v1.37.0 // gocloud.dev requires it
	go.opentelemetry.io/otel/trace v1.37.0 // gocloud.dev requires it
	go.yaml.in/yaml/v3 v3.0.4
	gocloud.dev v0.44.0 // blob.WriterOptions.IfNotExist
	golang.org/x/crypto v0.43.0 // modernc.org/sqlite requires it
	golang.org/x/term v0.36.0 // golang.org/x/crypto requires it
	golang.org/x/text v0.30.0 // golang.org/x/crypto requires it
	google.golang.org/api v0.247.0 // gocloud.dev requires it; option.WithLogger
	google.golang.org/genproto/googleapis/rpc v0.0.0-20250811230008-5f3141c8851a // gocloud.dev requires it
	google.golang.org/grpc v1.74.2 // gocloud.dev requires it
	google.golang.org/protobuf v1.36.7 // gocloud.dev requires it
	gorm.io/driver/mysql v1.4.0
	gorm.io/driver/sqlite v1.5.7
	gorm.io/gorm v1.25.12
	gorm.io/plugin/optimisticlock v1.1.3 // tests
	gorm.io/plugin/soft_delete v1.2.1 // tests
	modernc.org/sqlite v1.46.1 // earlier ones leave queries open whose context ends, and transactions whose commit fails
)

require (
	ariga.io/atlas v0.19.1-0.20240203083654-5948b60a8e43 // indirect
	cloud.google.com/go v0.121.6 // indirect
	cloud.google.com/go/auth v0.16.4 // indirect
	cloud.google.com/go/auth/oauth2adapt v0.2.8 // indirect
	cloud.google.com/go/compute/metadata v0.8.0 // indirect
	cloud.google.com/go/iam v1.5.2 // indirect
	cloud.google.com/go/longrunning v0.6.7 // indirect
	filippo.io/edwards25519 v1.1.0 // indirect
	github.com/Azure/azure-sdk-for-go/sdk/internal v1.11.1 // indirect
	github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/internal v1.1.1 // indirect; the first requests of v1.1.0 race
	github.com/AzureAD/microsoft-authentication-library-for-go v1.4.2 // indirect
	github.com/agext/levenshtein v1.2.1 // indirect
	github.com/apparentlymart/go-textseg/v13 v13.0.0 // indirect
	github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream v1.7.3 // indirect
	github.com/aws/aws-sdk-go-v2/feature/ec2/imds v1.18.13 // indirect
	github.com/aws/aws-sdk-go-v2/feature/s3/manager v1.20.3 // indirect
	github.com/aws/aws-sdk-go-v2/internal/configsources v1.4.13 // indirect
	github.com/aws/aws-sdk-go-v2/internal/endpoints/v2 v2.7.13 // indirect
	github.com/aws/aws-sdk-go-v2/internal/ini v1.8.4 // indirect
	github.com/aws/aws-sdk-go-v2/internal/v4a v1.4.13 // indirect
	github.com/aws/aws-sdk-go-v2/service/internal/accept-encoding v1.13.3 // indirect
	github.com/aws/aws-sdk-go-v2/service/internal/checksum v1.9.4 // indirect
	github.com/aws/aws-sdk-go-v2/service/internal/presigned-url v1.13.13 // indirect
	github.com/aws/aws-sdk-go-v2/service/internal/s3shared v1.19.13 // indirect
	github.com/aws/aws-sdk-go-v2/service/sso v1.30.1 // indirect
	github.com/aws/aws-sdk-go-v2/service/ssooidc v1.35.5 // indirect
	github.com/aws/aws-sdk-go-v2/service/sts v1.39.1 // indirect
	github.com/cenkalti/backoff/v4 v4.3.0 // indirect
	github.com/davecgh/go-spew v1.1.1 // indirect
	github.com/dustin/go-humanize v1.0.1 // indirect
	github.com/felixge/httpsnoop v1.0.4 // indirect
	github.com/go-jose/go-jose/v4 v4.1.1 // indirect
	github.com/go-logr/logr v1.4.3 // indirect
	github.com/go-logr/stdr v1.2.2 // indirect
	github.com/go-openapi/inflect v0.19.0 // indirect
	github.com/golang-jwt/jwt/v5 v5.2.3 // indirect
	github.com/google/go-cmp v0.7.0 // indirect
	github.com/google/s2a-go v0.1.9 // indirect
	github.com/google/wire v0.7.0 // indirect
	github.com/googleapis/enterprise-certificate-proxy v0.3.6 // indirect
	github.com/hashicorp/errwrap v1.1.0 // indirect
	github.com/hashicorp/go-cleanhttp v0.5.2 // indirect
	github.com/hashicorp/go-multierror v1.1.1 // indirect
	github.com/hashicorp/go-retryablehttp v0.7.7 // indirect
	github.com/hashicorp/go-rootcerts v1.0.2 // indirect
	github.com/hashicorp/go-secure-stdlib/parseutil v0.1.6 // indirect
	github.com/hashicorp/go-secure-stdlib/strutil v0.1.2 // indirect
	github.com/hashicorp/go-sockaddr v1.0.2 // indirect
	github.com/hashicorp/hcl v1.0.0 // indirect
	github.com/hashicorp/hcl/v2 v2.13.0 // indirect
	github.com/jackc/pgpassfile v1.0.0 // indirect
	github.com/jackc/pgservicefile v0.0.0-20240606120523-5a60cdf6a761 // indirect
	github.com/jackc/puddle/v2 v2.2.2 // indirect
	github.com/jinzhu/inflection v1.0.0 // indirect
	github.com/jinzhu/now v1.1.5 // indirect
	github.com/kylelemons/godebug v1.1.0 // indirect
	github.com/mattn/go-isatty v0.0.20 // indirect
	github.com/mattn/go-sqlite3 v1.14.22 // indirect
	github.com/mitchellh/colorstring v0.0.0-20190213212951-d06e56a500db // indirect
	github.com/mitchellh/go-homedir v1.1.0 // indirect
	github.com/mitchellh/go-wordwrap v1.0.0 // indirect
	github.com/mitchellh/mapstructure v1.5.0 // indirect
	github.com/ncruces/go-strftime v1.0.0 // indirect
	github.com/pkg/browser v0.0.0-20240102092130-5ac0b6a4141c // indirect
	github.com/pmezard/go-difflib v1.0.0 // indirect
	github.com/remyoudompheng/bigfft v0.0.0-20230129092748-24d4a6f8daec // indirect
	github.com/riverqueue/river/riverdriver v0.22.0 // indirect
	github.com/riverqueue/river/rivershared v0.22.0 // indirect
	github.com/rivo/uniseg v0.4.7 // indirect
	github.com/ryanuber/go-glob v1.0.0 // indirect
	github.com/stretchr/testify v1.10.0 // indirect
	github.com/tidwall/gjson v1.18.0 // indirect
	github.com/tidwall/match v1.1.1 // indirect
	github.com/tidwall/pretty v1.2.1 // indirect
	github.com/tidwall/sjson v1.2.5 // indirect
	github.com/tmthrgd/go-hex v0.0.0-20190904060850-447a3041c3bc // indirect
	github.com/vmihailenco/msgpack/v5 v5.3.5 // indirect
	github.com/vmihailenco/tagparser/v2 v2.0.0 // indirect
	github.com/zclconf/go-cty v1.8.0 // indirect
	go.opentelemetry.io/auto/sdk v1.1.0 // indirect
	go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc v0.62.0 // indirect
	go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp v0.62.0 // indirect
	go.uber.org/goleak v1.3.0 // indirect
	golang.org/x/mod v0.29.0 // modernc.org/sqlite requires it
	golang.org/x/net v0.46.0 // indirect
	golang.org/x/oauth2 v0.30.0 // indirect
	golang.org/x/sync v0.17.0 // indirect
	golang.org/x/sys v0.37.0 // indirect
	golang.org/x/time v0.12.0 // indirect
	golang.org/x/tools v0.38.0 // indirect
	golang.org/x/xerrors v0.0.0-20240903120638-7835f813f4da // indirect
	google.golang.org/genproto v0.0.0-20250715232539-7130f93afb79 // indirect
	google.golang.org/genproto/googleapis/api v0.0.0-20250818200422-3122310a409c // indirect
	gopkg.in/yaml.v3 v3.0.1 // indirect
	modernc.org/libc v1.67.6 // indirect
	modernc.org/mathutil v1.7.1 // indirect
	modernc.org/memory v1.11.0 // indirect
)

require golang.org/x/exp v0.0.0-20251023183803-a4bb9ffd2546 // indirect
