// Shows /openapi.json. Text goes into the page as text, never as markup.

const make = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.filter((child) => child !== undefined));
  return element;
};

// `code` in prose.
const prose = (text = '') => text.split('`').map((part, at) => (at % 2 ? make('code', {}, part) : part));

const nameOf = (reference) => reference.split('/').pop();

const typeOf = (schema = {}) => {
  if (schema.$ref) return [make('a', { href: `#${nameOf(schema.$ref)}` }, nameOf(schema.$ref))];
  const choices = schema.oneOf ?? schema.anyOf ?? schema.allOf;
  if (choices) return choices.flatMap((choice, at) => [at ? ' or ' : '', ...typeOf(choice)]);
  if (schema.enum) return [schema.enum.join(' | ')];
  if (schema.type === 'array') return ['list of ', ...typeOf(schema.items)];
  const type = [schema.type ?? 'anything'].flat().join(' or ');
  const bounds = [schema.minimum, schema.maximum];
  return [bounds.every((bound) => bound !== undefined) ? `${type}, ${bounds.join(' to ')}` : type];
};

const rows = (entries) => make('table', {}, ...entries.map(([name, must, schema, about]) => make('tr', {},
  make('th', {}, make('code', {}, name), must ? make('span', { class: 'must', title: 'required' }, ' *') : ''),
  make('td', { class: 'type' }, ...typeOf(schema)),
  make('td', {}, ...prose(about)))));

const shownOperation = (path, method, operation) => {
  const section = make('section', { id: operation.operationId },
    make('div', { class: 'way' },
      make('span', { class: `method ${method}` }, method.toUpperCase()),
      make('code', {}, path),
      make('span', { class: 'key' }, operation.security ? 'operator' : '')),
    make('h2', {}, operation.summary ?? ''));
  const parameters = operation.parameters ?? [];
  if (parameters.length) {
    section.append(make('h3', {}, 'Parameters'),
      rows(parameters.map((one) => [one.name, one.required, one.schema, one.description])));
  }
  const body = operation.requestBody?.content?.['application/json'];
  if (body) section.append(make('h3', {}, 'Body'), make('p', {}, ...typeOf(body.schema)));
  section.append(make('h3', {}, 'Answers'),
    make('table', {}, ...Object.entries(operation.responses).map(([status, response]) => make('tr', {},
      make('th', {}, make('code', {}, status)),
      make('td', { class: 'type' }, ...Object.entries(response.content ?? {}).flatMap(([media, content], at) =>
        [at ? ' or ' : '', ...(content.schema ? typeOf(content.schema) : [media])])),
      make('td', {}, ...prose(response.description))))));
  return section;
};

const shownSchema = (name, schema) => {
  const section = make('section', { id: name }, make('h2', {}, name), make('p', {}, ...prose(schema.description)));
  const required = new Set(schema.required ?? []);
  const properties = Object.entries(schema.properties ?? {});
  if (properties.length) {
    section.append(rows(properties.map(([key, value]) => [key, required.has(key), value, value.description])));
  } else {
    section.append(make('p', {}, ...typeOf(schema)));
  }
  return section;
};

const show = (description) => {
  const main = document.querySelector('#main');
  const contents = document.querySelector('#contents');
  document.title = `${description.info.title} ${description.info.version}`;
  main.replaceChildren(make('h1', {}, document.title),
    ...description.info.description.split('\n\n').map((paragraph) => make('p', {}, ...prose(paragraph))));
  contents.replaceChildren(make('a', { href: '/openapi.json' }, 'openapi.json'));
  const byTag = new Map();
  for (const [path, item] of Object.entries(description.paths)) {
    for (const [method, operation] of Object.entries(item)) {
      const tag = operation.tags?.[0] ?? 'other';
      byTag.set(tag, [...(byTag.get(tag) ?? []), [path, method, operation]]);
    }
  }
  for (const tag of ['sessions', 'events', 'host', 'description'].filter((one) => byTag.has(one))) {
    contents.append(make('strong', {}, tag));
    for (const [path, method, operation] of byTag.get(tag)) {
      contents.append(make('a', { href: `#${operation.operationId}` }, operation.summary));
      main.append(shownOperation(path, method, operation));
    }
  }
  contents.append(make('strong', {}, 'types'));
  for (const [name, schema] of Object.entries(description.components.schemas)) {
    contents.append(make('a', { href: `#${name}` }, name));
    main.append(shownSchema(name, schema));
  }
};

try {
  const response = await fetch('/openapi.json');
  if (!response.ok) throw new Error(`status ${response.status}`);
  show(await response.json());
} catch (error) {
  document.querySelector('#main').replaceChildren(make('p', {}, `The description cannot be shown: ${error.message}`));
}
