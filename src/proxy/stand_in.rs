//! What every session that stands in for the client's leaves to it. Such a session has a field
//! `real`.

/// The methods of pingora's custom session that are passed on as they are, as far as they do not
/// wait. (Those that do are rewritten by `async_trait`, which does not look into macros.)
macro_rules! left_to_the_real_session {
    () => {
        fn req_header(&self) -> &::pingora::http::RequestHeader {
            self.real.req_header()
        }

        fn req_header_mut(&mut self) -> &mut ::pingora::http::RequestHeader {
            self.real.req_header_mut()
        }

        fn body_bytes_read(&self) -> usize {
            self.real.body_bytes_read()
        }

        fn body_bytes_sent(&self) -> usize {
            self.real.body_bytes_sent()
        }

        fn set_read_timeout(&mut self, timeout: Option<::std::time::Duration>) {
            self.real.set_read_timeout(timeout);
        }

        fn get_read_timeout(&self) -> Option<::std::time::Duration> {
            self.real.get_read_timeout()
        }

        fn set_write_timeout(&mut self, timeout: Option<::std::time::Duration>) {
            self.real.set_write_timeout(timeout);
        }

        fn get_write_timeout(&self) -> Option<::std::time::Duration> {
            self.real.get_write_timeout()
        }

        fn set_total_drain_timeout(&mut self, timeout: Option<::std::time::Duration>) {
            self.real.set_total_drain_timeout(timeout);
        }

        fn get_total_drain_timeout(&self) -> Option<::std::time::Duration> {
            self.real.get_total_drain_timeout()
        }

        fn request_summary(&self) -> String {
            self.real.request_summary()
        }

        fn digest(&self) -> Option<&::pingora::protocols::Digest> {
            self.real.digest()
        }

        fn digest_mut(&mut self) -> Option<&mut ::pingora::protocols::Digest> {
            self.real.digest_mut()
        }

        fn client_addr(&self) -> Option<&::pingora::protocols::l4::socket::SocketAddr> {
            self.real.client_addr()
        }

        fn server_addr(&self) -> Option<&::pingora::protocols::l4::socket::SocketAddr> {
            self.real.server_addr()
        }

        fn pseudo_raw_h1_request_header(&self) -> ::bytes::Bytes {
            self.real.to_h1_raw()
        }

        // Custom messages: a feature of pingora's custom protocols that HTTP does not have.

        fn take_custom_message_reader(&mut self) -> Option<$crate::proxy::stand_in::Messages> {
            None
        }

        fn restore_custom_message_reader(
            &mut self,
            _reader: $crate::proxy::stand_in::Messages,
        ) -> ::pingora::Result<()> {
            Ok(())
        }

        fn take_custom_message_writer(
            &mut self,
        ) -> Option<Box<dyn ::pingora::protocols::http::custom::CustomMessageWrite>> {
            None
        }

        fn restore_custom_message_writer(
            &mut self,
            _writer: Box<dyn ::pingora::protocols::http::custom::CustomMessageWrite>,
        ) -> ::pingora::Result<()> {
            Ok(())
        }
    };
}

pub(super) use left_to_the_real_session;

/// Custom messages as they come.
pub type Messages =
    Box<dyn futures::Stream<Item = pingora::Result<bytes::Bytes>> + Unpin + Send + Sync + 'static>;

/// Finishes what was queued for the client and whose writing was interrupted.
pub async fn flush(real: &mut pingora::protocols::http::ServerSession) -> pingora::Result<()> {
    if real.has_pending_downstream_proxy_tasks() {
        real.write_downstream_proxy_tasks().await?;
    }
    Ok(())
}
