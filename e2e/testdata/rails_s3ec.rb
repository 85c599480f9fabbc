# A Rails application without its folder, whose files are in plain and in encrypted
# services. It opens every file of a document, prints a line for each, and attaches more.
# Usage: ruby rails_s3ec.rb DATABASE S3 KMS BUCKET DOCUMENT_ID
$LOAD_PATH.unshift(__dir__)
require "rails"
require "active_record/railtie"
require "active_job/railtie"
require "active_storage/engine"
require "sqlite3"
require "json"
require "digest"

DATABASE, S3, KMS, BUCKET, DOCUMENT = ARGV
ENV["DATABASE_URL"] = "sqlite3:#{DATABASE}?timeout=20000"
PLAIN = {"service" => "S3", "bucket" => BUCKET, "region" => "us-east-1", "endpoint" => S3, "force_path_style" => true,
  "access_key_id" => "id0000", "secret_access_key" => "secret00"}
ENCRYPTED = PLAIN.merge("service" => "EncryptedS3", "kms_key_id" => "alias/files", "kms_endpoint" => KMS)

class Application < Rails::Application
  config.load_defaults 6.1
  config.root = File.dirname(DATABASE)
  config.eager_load = false
  config.logger = Logger.new(File::NULL)
  config.secret_key_base = "0" * 64
  config.active_storage.service = :amazon
  config.active_storage.service_configurations = {
    "amazon" => PLAIN,
    "amazon_encrypted" => ENCRYPTED.merge("envelope_location" => "metadata"),
    "amazon_instruction" => ENCRYPTED.merge("envelope_location" => "instruction_file")
  }
  config.active_job.queue_adapter = :test # no job is run: nothing is analyzed
end
Application.initialize!

class Document < ActiveRecord::Base
  has_one_attached :photo
  has_one_attached :license, service: :amazon_encrypted
  has_many_attached :scans, service: :amazon_instruction
end

def show(attachment)
  content = attachment.download
  opened = attachment.open { |file| file.binmode.read } # compares the checksum
  raise "open and download differ" unless opened.b == content.b
  puts({name: attachment.name, filename: attachment.filename.to_s, service: attachment.blob.service_name,
    size: attachment.byte_size, sha256: Digest::SHA256.hexdigest(content)}.to_json)
end

document = Document.find(DOCUMENT)
show(document.photo.attachment)
show(document.license.attachment)
document.scans.attachments.sort_by(&:id).each { |scan| show(scan) }

%i[photo license].each do |name|
  document.public_send(name).attach(io: StringIO.new("#{name} of Rails " * 50_000), filename: "#{name} ü.txt", content_type: "text/plain")
end
document.scans.attach(io: StringIO.new("scan of Rails"), filename: "scan.txt", content_type: "text/plain")
document.save!
