// Here, so that the package is found beside it.
export { Stagehand } from '@browserbasehq/stagehand';
