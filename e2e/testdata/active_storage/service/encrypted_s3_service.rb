require "active_storage/service/s3_service"
require "aws-sdk-kms"
require "delegate"

module ActiveStorage
  # A service as applications write it: AWS's encryption client under Active Storage.
  class Service::EncryptedS3Service < Service::S3Service
    # Debian's KMS gem, 1.24, does not know key_id at Decrypt.
    class WithoutKeyID < SimpleDelegator
      def decrypt(options) = __getobj__.decrypt(options.reject { |name, _| name == :key_id })
    end

    def initialize(kms_key_id:, kms_endpoint:, envelope_location:, **options)
      super(**options)
      kms = Aws::KMS::Client.new(region: options[:region], credentials: client.client.config.credentials, endpoint: kms_endpoint)
      @encryption = Aws::S3::EncryptionV2::Client.new(
        client: client.client, kms_key_id: kms_key_id, kms_client: WithoutKeyID.new(kms), key_wrap_schema: :kms_context,
        content_encryption_schema: :aes_gcm_no_padding, security_profile: :v2, envelope_location: envelope_location.to_sym
      )
    end

    def upload(key, io, **)
      @encryption.put_object(bucket: bucket.name, key: key, body: io)
    end

    def download(key)
      content = @encryption.get_object(bucket: bucket.name, key: key).body.read.b
      block_given? ? yield(content) : content
    end

    def download_chunk(key, range) = download(key)[range]
  end
end
