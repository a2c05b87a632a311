'use strict';

// Markdown to HTML: a function with an npm dependency. The event is {"markdown": "..."}.

const { marked } = require('marked');

exports.handler = async (event, context) => {
  const source = String(event.markdown ?? '');
  const headings = marked.lexer(source).filter((token) => token.type === 'heading').length;
  console.log(`${source.length} characters, request ${context.awsRequestId}`);
  return { html: marked.parse(source), headings, node: process.version };
};
