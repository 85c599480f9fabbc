# Puts and gets objects with the encryption clients of aws-sdk-s3. The request is JSON:
# the endpoints and a list of objects; the answer is JSON with what was read.
require 'aws-sdk-s3'
require 'aws-sdk-kms'
require 'base64'
require 'json'

request = JSON.parse($stdin.read)
credentials = Aws::Credentials.new('id0000', 'secret00')
s3 = Aws::S3::Client.new(region: 'us-east-1', endpoint: request['s3'], force_path_style: true, credentials: credentials)
kms = Aws::KMS::Client.new(region: 'us-east-1', endpoint: request['kms'], credentials: credentials)

# The client of EncryptionV2 sends key_id at Decrypt, which Debian's KMS gem, 1.24, refuses.
class WithoutKeyID < SimpleDelegator
  def decrypt(options) = __getobj__.decrypt(options.reject { |name, _| name == :key_id })
end

answer = request['objects'].map do |o|
  wrap =
    case o['wrap']
    when 'kms' then { kms_key_id: o['key'], kms_client: WithoutKeyID.new(kms), key_wrap_schema: :kms_context }
    when 'aes' then { encryption_key: Base64.strict_decode64(o['key']), key_wrap_schema: :aes_gcm }
    when 'rsa' then { encryption_key: OpenSSL::PKey::RSA.new(o['key']), key_wrap_schema: :rsa_oaep_sha1 }
    end
  client = Aws::S3::EncryptionV2::Client.new(
    client: s3, content_encryption_schema: :aes_gcm_no_padding, security_profile: :v2,
    envelope_location: o['instruction'] ? :instruction_file : :metadata, **wrap
  )
  params = { bucket: request['bucket'], key: o['name'] }
  params[:kms_encryption_context] = o['context'] if o['context']
  if o['plaintext']
    client.put_object(body: Base64.strict_decode64(o['plaintext']), **params)
    next {}
  end
  begin
    { plaintext: Base64.strict_encode64(client.get_object(**params).body.read) }
  rescue StandardError => e
    { error: "#{e.class}: #{e.message}" }
  end
end
puts JSON.generate(answer)
